"""The same scenarios against every supported major version of Postgres; `make scenarios`."""
