ch_fuzz_target(config ch_domain)
ch_fuzz_target(wrapped_key ch_domain)
ch_fuzz_target(catalogue ch_domain)
