ch_unit_test(wire http1_head)
ch_unit_test(wire http1_body)
ch_unit_test(wire url)
