# SPDX-License-Identifier: Apache-2.0
# ch_embed(TARGET SYMBOL FILE): links FILE into TARGET as `const unsigned char SYMBOL[]` and
# `const size_t SYMBOL_len`, through the assembler's .incbin, so that large files cost no compile time.
function(ch_embed target symbol file)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embed_${symbol}.c)
  file(WRITE ${out}.tmp
"#include <stddef.h>
__asm__(\".section .rodata\\n.balign 16\\n.global ${symbol}\\n${symbol}:\\n.incbin \\\"${file}\\\"\\n\"
        \".global ${symbol}_end\\n${symbol}_end:\\n.byte 0\\n.balign 8\\n.global ${symbol}_len\\n\"
        \"${symbol}_len:\\n.quad ${symbol}_end - ${symbol}\\n.previous\\n\");
")
  configure_file(${out}.tmp ${out} COPYONLY)
  set_source_files_properties(${out} PROPERTIES OBJECT_DEPENDS ${file} COMPILE_OPTIONS -fno-lto)
  target_sources(${target} PRIVATE ${out})
endfunction()
