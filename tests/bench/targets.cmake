# SPDX-License-Identifier: Apache-2.0
# The programs of scripts/bench, out of `all`: cmake --build --preset release --target bench
function(ch_bench_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/tests/bench/)
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} Threads::Threads ch_warnings ch_sanitize)
  add_dependencies(bench ${name})
endfunction()

add_custom_target(bench DEPENDS chaperone)
ch_bench_program(bench_latency SOURCES bench_latency.c http.c)
ch_bench_program(bench_stream SOURCES bench_stream.c http.c)
ch_bench_program(bench_flood SOURCES bench_flood.c http.c)
ch_bench_program(bench_hold SOURCES bench_hold.c http.c)
ch_bench_program(bench_keys SOURCES bench_keys.c http.c LINK ch_app)
ch_bench_program(bench_store SOURCES bench_store.c LINK ch_store)
