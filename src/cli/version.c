/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/version.h"

#include "git_commit.h"

const char *ssmq_version(void) {
    return SSMQ_VERSION;
}

const char *ssmq_git_commit(void) {
    return SSMQ_GIT_COMMIT;
}

const char *ssmq_compiler(void) {
    return SSMQ_COMPILER;
}
