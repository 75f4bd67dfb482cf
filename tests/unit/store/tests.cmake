# SPDX-License-Identifier: Apache-2.0
ch_unit_test(store key_store)
ch_unit_test(store price_store)
ch_unit_test(store provider_store)
ch_unit_test(store store)
ch_unit_test(store usage_journal)
ch_unit_test(store usage_query)
ch_unit_test(store usage_record)
ch_unit_test(store usage_writer)
ch_unit_test(store vault -Wl,--wrap=EVP_DecryptFinal_ex) # counts decryptions
