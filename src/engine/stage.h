/* SPDX-License-Identifier: Apache-2.0 */
/* engine/stage.h - the stages of a forward pass, for times by stage. */
#ifndef SSMQ_ENGINE_STAGE_H
#define SSMQ_ENGINE_STAGE_H

#ifdef __cplusplus
extern "C" {
#endif

/* Code, name. */
#define SSMQ_STAGE_TABLE(X)                                                                        \
    X(EMBED, "embed")                                                                              \
    X(NORM, "norm")                                                                                \
    X(IN_PROJ, "in_proj")                                                                          \
    X(CONV, "conv")                                                                                \
    X(SSD, "ssd")                                                                                  \
    X(GATED_NORM, "gated_norm")                                                                    \
    X(OUT_PROJ, "out_proj")                                                                        \
    X(HEAD, "head")

typedef enum ssmq_stage {
#define X(code, name) SSMQ_STAGE_##code,
    SSMQ_STAGE_TABLE(X)
#undef X
        SSMQ_N_STAGES
} ssmq_stage;
const char *ssmq_stage_name(ssmq_stage stage); /* static text */

#ifdef __cplusplus
}
#endif
#endif
