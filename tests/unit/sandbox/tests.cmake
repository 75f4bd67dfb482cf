# SPDX-License-Identifier: Apache-2.0
ch_unit_test(sandbox template)
ch_unit_test(sandbox answer PkgConfig::JANSSON)
ch_unit_test(sandbox sandbox)
ch_unit_test(sandbox media PkgConfig::JANSSON)
