"""The names of all settings, so that a process knows those that only another process reads.

``tests/launch/test_config.py`` holds the list against the settings' classes.
"""

SHARED = """
redis_url redis_sentinels redis_service queue_name log_level log_format catalog lora_dir root_path queue_limit
low_priority_share caller_share caller_jobs caller_megapixels_per_day job_deadline_s max_attempts input_ttl_s
result_ttl_s record_ttl_s output_hosts webhook_secret memory_share
"""
API = """
host port auth calls_per_minute max_image_bytes max_mask_bytes max_pixels decode_threads decode_cpu_s decode_wait_s
max_wait_s max_stream_s poll_s batch_bytes batch_lines batch_jobs batch_ttl_s caller_batches input_hosts trusted_proxies
cors_origins max_connections client_timeout_s min_body_rate body_timeout_s send_timeout_s max_inflight_bytes
"""
WORKER = """
worker_name seats max_rows device dtype model_budget_bytes lora_budget_bytes encoding_budget_bytes load_limit_s
offload vae_tiling vae_slicing compile torch_threads codec_threads lease_s beat_s stall_s grace_s result_patience_s
maintenance_s metrics_host metrics_port marking c2pa_certificates c2pa_key
"""
LAUNCHER = """
redis_maxmemory workers devices var_dir demo_dir ready_timeout_s drain_timeout_s
"""
CLIENT = "url api_key"

NAMES = frozenset(f"INFILL_{name.upper()}" for part in (SHARED, API, WORKER, LAUNCHER, CLIENT) for name in part.split())
