ch_unit_test(admin when)
ch_unit_test(admin admin)
ch_unit_test(admin server)
