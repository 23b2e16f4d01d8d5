"""Libraries and compilers of other languages: fetched, built and kept below `.tools/kits`."""
