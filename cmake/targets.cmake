# SPDX-License-Identifier: Apache-2.0
# Warnings, hardening and the helpers that declare a floor, a unit test and a fuzz target.

add_library(ch_warnings INTERFACE)
target_compile_options(ch_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual
  -Wwrite-strings -Wvla -Wformat=2 -Wundef -Wswitch-enum -Wimplicit-fallthrough
  $<$<BOOL:${CH_WERROR}>:-Werror>)

add_library(ch_hardening INTERFACE)
target_compile_options(ch_hardening INTERFACE
  -fstack-protector-strong -fno-common -fPIE
  $<$<CONFIG:Release>:-fcf-protection=full>
  # No folder of the build machine in the binary: the same sources give the same bytes anywhere.
  $<$<CONFIG:Release>:-ffile-prefix-map=${PROJECT_BINARY_DIR}/=>
  $<$<CONFIG:Release>:-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=>
  $<$<AND:$<CONFIG:Release>,$<C_COMPILER_ID:GNU>>:-fstack-clash-protection>)
target_compile_definitions(ch_hardening INTERFACE $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
target_link_options(ch_hardening INTERFACE -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)

# gcc makes copies and clearings of a known size `rep movs` and `rep stos`, whose start alone takes longer than vector
# moves take for all of it (0.98 × the CPU of an exchange). The linker optimises, too, and has to be told as well.
add_library(ch_tuning INTERFACE)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(moves -mmemcpy-strategy=vector_loop:256:noalign,libcall:-1:noalign
            -mmemset-strategy=vector_loop:512:noalign,libcall:-1:noalign)
  target_compile_options(ch_tuning INTERFACE "$<$<CONFIG:Release>:${moves}>")
  target_link_options(ch_tuning INTERFACE "$<$<CONFIG:Release>:${moves}>")
endif()

add_library(ch_sanitize INTERFACE)
if(CH_SANITIZE)
  target_compile_options(ch_sanitize INTERFACE
    -fsanitize=${CH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ch_sanitize INTERFACE -fsanitize=${CH_SANITIZE})
endif()
if(CH_FUZZ) # the fuzzer steers by the branches that the parsers take, not its own
  target_compile_options(ch_sanitize INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ch_floor(NAME SOURCES a.c … HEADERS a.h … LINK lower libraries …)
# A floor is a static library. Its headers live in include/NAME and must compile alone.
function(ch_floor name)
  cmake_parse_arguments(ARG "" "" "SOURCES;HEADERS;LINK" ${ARGN})
  set(headers ${ARG_HEADERS})
  list(TRANSFORM headers PREPEND ${PROJECT_SOURCE_DIR}/include/${name}/)
  add_library(ch_${name} STATIC ${ARG_SOURCES})
  target_sources(ch_${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${headers})
  set_target_properties(ch_${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  target_compile_definitions(ch_${name} PUBLIC _GNU_SOURCE)
  target_link_libraries(ch_${name} PUBLIC ${ARG_LINK} PRIVATE ch_warnings ch_hardening ch_tuning)
  target_link_libraries(ch_${name} PUBLIC ch_sanitize)
endfunction()

# ch_unit_test(FLOOR MODULE LINK …): tests/unit/FLOOR/test_MODULE.c, one ctest of its own.
function(ch_unit_test floor module)
  set(target test_${floor}_${module})
  add_executable(${target} unit/${floor}/test_${module}.c)
  target_link_libraries(${target} PRIVATE ch_${floor} ${ARGN} PkgConfig::CMOCKA ch_warnings)
  target_compile_definitions(${target} PRIVATE
    CH_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CH_TABLE_DIR="${PROJECT_SOURCE_DIR}/tests/table")
  add_test(NAME unit/${floor}/${module} COMMAND ${target})
  set_tests_properties(unit/${floor}/${module} PROPERTIES TIMEOUT 120 LABELS unit)
endfunction()

# ch_fuzz_target(NAME LINK …): tests/fuzz/NAME/fuzz_NAME.c and tests/fuzz/NAME/corpus.
# With CH_FUZZ the target is a libFuzzer program; otherwise a driver replays the corpus under ctest.
function(ch_fuzz_target name)
  set(target fuzz_${name})
  if(CH_FUZZ)
    add_executable(${target} fuzz/${name}/fuzz_${name}.c)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${target} fuzz/${name}/fuzz_${name}.c fuzz/replay.c)
  endif()
  target_link_libraries(${target} PRIVATE ${ARGN} ch_warnings)
  if(NOT CH_FUZZ)
    add_test(NAME fuzz/${name} COMMAND ${target} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/${name}/corpus)
    set_tests_properties(fuzz/${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
endfunction()
