// SPDX-License-Identifier: Apache-2.0
// The version of the program, given by the build.
#ifndef CH_APP_VERSION_H
#define CH_APP_VERSION_H

#ifndef CH_VERSION
#define CH_VERSION "0.1.0"
#endif

#endif
