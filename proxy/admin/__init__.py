"""The admin of the proxy: its front page, the request history, the settings.

The site itself is `proxy.site`, because these modules register themselves there.

    dashboard.py         the front page; now.py is its upper half, looking_back.py its lower one
    figures.py           what the front page counts, from the hourly table
    charts.py            geometry of its charts
    request_log.py       the history: read-only; history_*.py are its filters, pages and links
    call_page.py         one call; reproduce.py writes it as a command line
    csv_export.py        the history as a file
    proxy_settings.py    the settings
    connection_views.py  Test connection

Nothing outside imports it: Django finds what is registered here.
"""

from proxy.admin import proxy_settings, request_log

__all__ = ["proxy_settings", "request_log"]
