ch_unit_test(admin changes)
ch_unit_test(admin policies # is the registry that tells of thresholds
  -Wl,--wrap=ch_registry_on_alert)
ch_unit_test(admin when)
ch_unit_test(admin admin # sees what reaches the registry and the writer
  -Wl,--wrap=ch_registry_put_key -Wl,--wrap=ch_registry_put_provider
  -Wl,--wrap=ch_usage_writer_flush)
ch_unit_test(admin server -Wl,--wrap=getaddrinfo) # a name server that hangs
ch_unit_test(admin roles)
