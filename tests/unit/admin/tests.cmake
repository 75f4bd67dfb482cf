ch_unit_test(admin when)
ch_unit_test(admin admin # sees what reaches the registry and the writer
  -Wl,--wrap=ch_registry_put_key -Wl,--wrap=ch_registry_put_provider
  -Wl,--wrap=ch_usage_writer_flush)
ch_unit_test(admin server -Wl,--wrap=getaddrinfo) # a name server that hangs
