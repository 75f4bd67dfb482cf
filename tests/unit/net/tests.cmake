ch_unit_test(net peer)
ch_unit_test(net resolver -Wl,--wrap=getaddrinfo -Wl,--wrap=freeaddrinfo) # names.h answers instead
ch_unit_test(net upstream_pool -Wl,--wrap=getaddrinfo -Wl,--wrap=freeaddrinfo)
ch_unit_test(net pool_trust -Wl,--wrap=getaddrinfo -Wl,--wrap=freeaddrinfo) # and so does the test itself
ch_unit_test(net address_guard)
ch_unit_test(net tls PkgConfig::CRYPTO)
