/* SPDX-License-Identifier: Apache-2.0 */
/* model/nfc.h - Unicode normalization form C (UAX 15) in time linear in the text. */
#ifndef SSMQ_MODEL_NFC_H
#define SSMQ_MODEL_NFC_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Buffers of code points that are kept from call to call. All zero to begin with. */
typedef struct ssmq_nfc_work {
    int32_t *points;
    size_t points_capacity;
    int32_t *sorted;
    size_t sorted_capacity;
} ssmq_nfc_work;
void ssmq_nfc_work_free(ssmq_nfc_work *work);

/* Appends the NFC form of n_bytes of valid UTF-8 to out. The caller checks out at its end.
 * Owns: work's buffers, ssmq_nfc_work_free().  Fails: NOMEM; CONFIG (invalid UTF-8). */
SSMQ_MUST_USE ssmq_status ssmq_nfc_append(ssmq_nfc_work *work, ssmq_str *out, const char *text,
                                          size_t n_bytes, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
