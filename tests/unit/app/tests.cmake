ch_unit_test(app cli_parse)
ch_unit_test(app cli_output)
ch_unit_test(app cli_secret)
ch_unit_test(app cli_help)
