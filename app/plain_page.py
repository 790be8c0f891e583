"""Pages of text: a document or the meaning of a problem, in a browser. Nothing is loaded, and no script runs."""

from html import escape

from fastapi.responses import HTMLResponse

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Infill</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
pre, table {{ display: block; overflow-x: auto; }}
pre {{ padding: .75rem; border: 1px solid #8886; border-radius: 6px; line-height: 1.4; }}
code {{ font-size: .9em; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .6rem; border: 1px solid #8886; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def plain_page(title: str, body: str) -> HTMLResponse:
    """``title``: text. ``body``: HTML. For addresses that answer a program with something else."""
    headers = {"Vary": "Accept", "Content-Security-Policy": POLICY}
    return HTMLResponse(PAGE.format(title=escape(title), body=body), headers=headers)
