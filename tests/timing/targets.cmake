# SPDX-License-Identifier: Apache-2.0
# The program of scripts/check-timing, out of `all` and of ctest: times are no test of a build.
add_executable(check_timing EXCLUDE_FROM_ALL timing/check_timing.c)
set_target_properties(check_timing PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/timing)
target_include_directories(check_timing PRIVATE ${PROJECT_SOURCE_DIR}/src/proxy)
target_link_libraries(check_timing PRIVATE ch_proxy m ch_warnings ch_sanitize)
