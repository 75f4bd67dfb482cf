ch_unit_test(proxy echo)
target_include_directories(test_proxy_echo PRIVATE ${PROJECT_SOURCE_DIR}/src/proxy)
ch_unit_test(proxy capture_queue Threads::Threads)
