/* SPDX-License-Identifier: Apache-2.0 */
/* main_ssmq.c - ssmq, the single-process companion. */
#include "cli/cli.h"

int main(int argc, char **argv) {
    return ssmq_main(argc, argv);
}
