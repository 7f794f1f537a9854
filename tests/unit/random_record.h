/* SPDX-License-Identifier: Apache-2.0 */
/* unit/random_record.h - records with random but valid content in every field. */
#ifndef SSMQ_TESTS_UNIT_RANDOM_RECORD_H
#define SSMQ_TESTS_UNIT_RANDOM_RECORD_H

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "record/record.h"

/* Text of characters that need care somewhere: quotes, commas, line ends, two to four bytes. */
static inline void random_text(char *field, size_t bytes, ssmq_rng *rng) {
    static const char *const pieces[] = {"a",
                                         "Z9",
                                         "\"",
                                         "\\",
                                         ",",
                                         "\n",
                                         "\t",
                                         " ",
                                         "/",
                                         "\x7f",
                                         "\xc3\xa9",
                                         "\r",
                                         "{",
                                         "'",
                                         ";",
                                         "\x01",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x90\x8d"};
    memset(field, 0, bytes);
    size_t used = 0;
    for (uint64_t n = ssmq_rng_below(rng, 12); n > 0; n--) {
        const char *piece = pieces[ssmq_rng_below(rng, sizeof pieces / sizeof pieces[0])];
        size_t length = strlen(piece);
        if (used + length >= bytes) return;
        memcpy(field + used, piece, length);
        used += length;
    }
}

/* Any finite double, by its bits, or NaN (the one that stands for null). */
static inline double random_f64(ssmq_rng *rng) {
    for (;;) {
        uint64_t bits = ssmq_rng_u64(rng);
        double value = 0.0;
        if (bits % 8 == 0) return (double)NAN;
        if (bits % 8 == 1) return (double)(bits >> 40) * (bits % 16 == 1 ? 1.0 : -0.5);
        if (bits % 64 == 2) return -0.0;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) return value;
    }
}

static inline void random_record(ssmq_record *record, ssmq_rng *rng) {
    ssmq_record_init(record);
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        char *place = (char *)record + field->offset;
        if (field->type == SSMQ_FIELD_STR) {
            random_text(place, field->bytes, rng);
        } else if (field->type == SSMQ_FIELD_F64) {
            double value = random_f64(rng);
            memcpy(place, &value, sizeof value);
        } else {
            int64_t value = (int64_t)(ssmq_rng_u64(rng) >> ssmq_rng_below(rng, 64));
            memcpy(place, &value, sizeof value);
        }
    }
}

#endif
