ch_unit_test(net peer)
