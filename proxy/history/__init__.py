"""What calls leave behind.

records.py       one call and its attempts, filled in while they run
logbook.py       the writer: in batches, behind the calls' back
rows.py          from records to rows
rollup.py        what every hour amounts to
retention.py     how long rows are kept
kept_headers.py  which headers of a reply are kept
"""
