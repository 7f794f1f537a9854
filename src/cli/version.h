/* SPDX-License-Identifier: Apache-2.0 */
/* cli/version.h - which ssmq this is. */
#ifndef SSMQ_CLI_VERSION_H
#define SSMQ_CLI_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0", of CMakeLists.txt. */
const char *ssmq_version(void);
/* Commit of the source tree at build time, with "-dirty" if tracked files were changed; "unknown"
 * outside a checkout. */
const char *ssmq_git_commit(void);
/* Compiler and its version. */
const char *ssmq_compiler(void);

#ifdef __cplusplus
}
#endif
#endif
