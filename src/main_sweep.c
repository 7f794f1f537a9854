/* SPDX-License-Identifier: Apache-2.0 */
/* main_sweep.c - ssmq-sweep, the MPI program. */
#include "cli/cli.h"

int main(int argc, char **argv) {
    return ssmq_sweep_main(argc, argv);
}
