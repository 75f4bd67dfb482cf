# SPDX-License-Identifier: Apache-2.0
"""What the integration and SDK tests stand on: the daemon as a process, a scripted upstream and a raw client."""
