/* SPDX-License-Identifier: Apache-2.0 */
#include "config/scopes.h"

#include <stdio.h>
#include <string.h>

static const char EACH[] = "each";
enum { EACH_BYTES = sizeof EACH - 1 };

/* True if the item that begins at text has the layers "each". */
static bool is_each(const char *text) {
    if (strncmp(text, EACH, EACH_BYTES) != 0) return false;
    char after = text[EACH_BYTES];
    return after == '\0' || after == '.' || after == ',';
}

static bool begins_item(const char *scope, size_t i) {
    return i > 0 && (scope[i - 1] == ':' || scope[i - 1] == ',');
}

bool ssmq_scope_has_each(const char *scope) {
    for (size_t i = 0; scope[i] != '\0'; i++) {
        if (begins_item(scope, i) && is_each(scope + i)) return true;
    }
    return false;
}

void ssmq_scope_at_layer(char *out, const char *scope, int layer) {
    size_t n = 0;
    for (size_t i = 0; scope[i] != '\0' && n + 1 < SSMQ_SCOPE_BYTES;) {
        if (begins_item(scope, i) && is_each(scope + i)) {
            int written = snprintf(out + n, SSMQ_SCOPE_BYTES - n, "%d", layer);
            n += written > 0 ? (size_t)written : 0;
            i += EACH_BYTES;
        } else {
            out[n++] = scope[i++];
        }
    }
    out[n < SSMQ_SCOPE_BYTES ? n : SSMQ_SCOPE_BYTES - 1] = '\0';
}

ssmq_status ssmq_scope_check_each(const char *scope, ssmq_err *err) {
    char text[SSMQ_SCOPE_BYTES];
    if (strlen(scope) >= sizeof text) {
        return SSMQ_FAIL(err, CONFIG, "scope longer than %d bytes", SSMQ_SCOPE_BYTES - 1);
    }
    ssmq_scope_at_layer(text, scope, 0);
    return ssmq_scope_check(text, err);
}
