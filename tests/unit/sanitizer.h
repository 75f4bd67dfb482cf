// SPDX-License-Identifier: Apache-2.0
// Under the thread sanitizer a test that has one thread proves nothing that the address sanitizer's
// run does not, and takes five times as long. Such tests divide their long loops by CH_TSAN_SHARE,
// which is 1 everywhere else.
#ifndef CH_TEST_SANITIZER_H
#define CH_TEST_SANITIZER_H

#define CH_TSAN_SHARE 1
#if defined(__SANITIZE_THREAD__)
#undef CH_TSAN_SHARE
#define CH_TSAN_SHARE 8
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef CH_TSAN_SHARE
#define CH_TSAN_SHARE 8
#endif
#endif

#endif
