/* SPDX-License-Identifier: Apache-2.0 */
/* A precision in a configuration: by name, or written out as a mapping. */
#include <stdio.h>
#include <string.h>

#include "config/values.h"

static const char FIELDS[] =
    "name, dtype, w_bits, a_bits, w_format, a_format, group_size, state_dtype, "
    "state_rounding";
static const char DTYPES[] = "fp32 | fp16 | bf16";
static const char ROUNDINGS[] = "nearest | stochastic";
static const char PATH[] = "sweep.precisions";

enum { PATH_BYTES = 64, LIST_BYTES = 480, MOST_GROUP_SIZE = 262144, UNSET = -1 };

typedef enum field {
    FIELD_NAME,
    FIELD_DTYPE,
    FIELD_W_BITS,
    FIELD_A_BITS,
    FIELD_W_FORMAT,
    FIELD_A_FORMAT,
    FIELD_GROUP_SIZE,
    FIELD_STATE_DTYPE,
    FIELD_STATE_ROUNDING,
    N_FIELDS
} field;

static const char *const field_names[N_FIELDS] = {"name",       "dtype",       "w_bits",
                                                  "a_bits",     "w_format",    "a_format",
                                                  "group_size", "state_dtype", "state_rounding"};

/* A text made of the rows of quant/'s tables, for the part of a fault that says what is allowed. */
typedef enum list { LIST_FORMATS, LIST_BITS, LIST_GROUPED_BITS, LIST_LADDER, LIST_STATES } list;

static const char *listed(char out[LIST_BYTES], list which) {
    ssmq_str text;
    ssmq_str_init(&text, LIST_BYTES - 1);
    switch (which) {
    case LIST_FORMATS:
        ssmq_format_add_names(&text, " | ");
        break;
    case LIST_BITS:
        ssmq_format_add_bits(&text, ", ");
        ssmq_str_addf(&text, ", or the 16 or 32 bits of dtype");
        break;
    case LIST_GROUPED_BITS:
        ssmq_str_addf(&text, "0, or w_bits of ");
        ssmq_format_add_bits(&text, " or ");
        break;
    case LIST_LADDER:
        ssmq_precision_add_ladder(&text);
        break;
    case LIST_STATES:
        ssmq_str_addf(&text, "%s", DTYPES);
        for (int i = SSMQ_FORMAT_FLOAT + 1; i < SSMQ_N_FORMATS; i++) {
            ssmq_str_addf(&text, " | %s", ssmq_format_get((ssmq_format)i)->name);
        }
        break;
    }
    ssmq_field_set(out, LIST_BYTES, ssmq_str_get(&text));
    ssmq_str_free(&text);
    return out;
}

/* A mapping while it is read: integers are UNSET until their field was seen. */
typedef struct draft {
    const ssmq_value_place *place;
    char name[SSMQ_PRECISION_NAME_BYTES];
    int dtype, state_dtype;
    int64_t w_bits, a_bits, group_size;
    int w_format, a_format;
    ssmq_format state_format;
    bool state_is_stochastic;
    bool is_bad;
} draft;

static bool dtype_from_name(const char *name, int *out) {
    for (int i = SSMQ_F32; i <= SSMQ_BF16; i++) {
        if (strcmp(ssmq_dtype_name((ssmq_dtype)i), name) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool state_from_name(draft *d, const char *name) {
    if (dtype_from_name(name, &d->state_dtype)) return true;
    d->state_dtype = SSMQ_F32;
    return ssmq_format_from_name(name, &d->state_format) && d->state_format != SSMQ_FORMAT_FLOAT;
}

static int64_t bits_of(int dtype) {
    return 8 * (int64_t)ssmq_dtype_bytes((ssmq_dtype)dtype);
}

static void fail_field(draft *d, ssmq_mark mark, const char *key, const char *what,
                       const char *allowed) {
    ssmq_fault(d->place->faults, mark, key, "%s; %s", what, allowed);
    d->is_bad = true;
}

static bool is_name_text(const char *text) {
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/");
    return n > 0 && text[n] == '\0' && n < SSMQ_PRECISION_NAME_BYTES;
}

static void read_integer(draft *d, const ssmq_yaml_node *node, const char *key, const char *text,
                         int64_t *out) {
    char shown[SSMQ_SHOWN_BYTES], text_of_list[LIST_BYTES];
    bool is_group = out == &d->group_size;
    const char *allowed = is_group ? "an integer from 0 (one scale a channel) to 262144"
                                   : listed(text_of_list, LIST_BITS);
    ssmq_format unused = SSMQ_FORMAT_FLOAT;
    int64_t value = 0;
    bool is_fine = node->is_plain && ssmq_text_to_i64(text, &value);
    if (is_fine && is_group) is_fine = value >= 0 && value <= MOST_GROUP_SIZE;
    if (is_fine && !is_group) {
        is_fine = value == 16 || value == 32 || ssmq_format_from_bits(value, &unused);
    }
    if (!is_fine) {
        ssmq_fault(d->place->faults, node->mark, key, "%s is not allowed; %s",
                   ssmq_shown(shown, text), allowed);
        d->is_bad = true;
        return;
    }
    *out = value;
}

static void read_field(draft *d, field which, const ssmq_yaml_node *node) {
    char key[PATH_BYTES], formats[LIST_BYTES];
    char shown[SSMQ_SHOWN_BYTES];
    (void)snprintf(key, sizeof key, "%s.%s", PATH, field_names[which]);
    if (node->kind != SSMQ_YAML_TEXT) {
        d->is_bad = true;
        if (node->kind == SSMQ_YAML_BAD) return;
        fail_field(d, node->mark, key, node->kind == SSMQ_YAML_MAP ? "is a mapping" : "is a list",
                   "a single value");
        return;
    }
    const char *text = ssmq_yaml_text(d->place->yaml, node);
    const char *allowed = NULL;
    ssmq_format format = SSMQ_FORMAT_FLOAT;
    switch (which) {
    case FIELD_NAME:
        if (!is_name_text(text)) allowed = "1 to 31 letters, digits and - _ . : /";
        if (allowed == NULL) ssmq_field_set(d->name, sizeof d->name, text);
        break;
    case FIELD_DTYPE:
        if (!dtype_from_name(text, &d->dtype)) allowed = DTYPES;
        break;
    case FIELD_STATE_DTYPE:
        if (!state_from_name(d, text)) allowed = listed(formats, LIST_STATES);
        break;
    case FIELD_STATE_ROUNDING:
        d->state_is_stochastic = strcmp(text, "stochastic") == 0;
        if (!d->state_is_stochastic && strcmp(text, "nearest") != 0) allowed = ROUNDINGS;
        break;
    case FIELD_W_FORMAT:
    case FIELD_A_FORMAT:
        if (!ssmq_format_from_name(text, &format)) {
            allowed = listed(formats, LIST_FORMATS);
        } else if (which == FIELD_W_FORMAT) {
            d->w_format = (int)format;
        } else {
            d->a_format = (int)format;
        }
        break;
    case FIELD_W_BITS:
        read_integer(d, node, key, text, &d->w_bits);
        break;
    case FIELD_A_BITS:
        read_integer(d, node, key, text, &d->a_bits);
        break;
    default:
        read_integer(d, node, key, text, &d->group_size);
        break;
    }
    if (allowed != NULL) {
        ssmq_fault(d->place->faults, node->mark, key, "%s is unknown; %s", ssmq_shown(shown, text),
                   allowed);
        d->is_bad = true;
    }
}

static void read_pairs(draft *d) {
    const ssmq_yaml *yaml = d->place->yaml;
    bool is_seen[N_FIELDS] = {false};
    const ssmq_yaml_node *name = ssmq_yaml_get(yaml, d->place->node->first_child);
    while (name != NULL) {
        const ssmq_yaml_node *value = ssmq_yaml_get(yaml, name->next);
        if (value == NULL) return;
        const char *text = name->kind == SSMQ_YAML_TEXT ? ssmq_yaml_text(yaml, name) : "";
        int which = 0;
        while (which < N_FIELDS && strcmp(field_names[which], text) != 0) which++;
        char what[SSMQ_SHOWN_BYTES + 32];
        char shown[SSMQ_SHOWN_BYTES];
        if (which == N_FIELDS) {
            (void)snprintf(what, sizeof what, "unknown key %s", ssmq_shown(shown, text));
            fail_field(d, name->mark, PATH, what, FIELDS);
        } else if (is_seen[which]) {
            (void)snprintf(what, sizeof what, "duplicate key %s", ssmq_shown(shown, text));
            fail_field(d, name->mark, PATH, what, "each key once");
        } else {
            is_seen[which] = true;
            read_field(d, (field)which, value);
        }
        name = ssmq_yaml_get(yaml, value->next);
    }
}

/* Bits and format of weights or activations follow from one another; neither set: not quantized.
 * `what` is "w" or "a". */
static void settle_format(draft *d, const char *what, int64_t *bits, int *format) {
    char key[PATH_BYTES];
    (void)snprintf(key, sizeof key, "%s.%s_bits", PATH, what);
    int64_t own = bits_of(d->dtype);
    if (*bits == UNSET) {
        *bits = *format == UNSET || *format == SSMQ_FORMAT_FLOAT
                    ? own
                    : ssmq_format_get((ssmq_format)*format)->bits;
    }
    if (*format == UNSET) {
        ssmq_format of_bits = SSMQ_FORMAT_FLOAT;
        (void)ssmq_format_from_bits(*bits, &of_bits);
        *format = (int)of_bits;
    }
    int64_t right =
        *format == SSMQ_FORMAT_FLOAT ? own : ssmq_format_get((ssmq_format)*format)->bits;
    if (*bits != right) {
        ssmq_fault(d->place->faults, d->place->node->mark, key,
                   "%d bits do not fit %s_format %s with dtype %s; %d bits", (int)*bits, what,
                   ssmq_format_get((ssmq_format)*format)->name,
                   ssmq_dtype_name((ssmq_dtype)d->dtype), (int)right);
        d->is_bad = true;
    }
}

/* A name for a precision without one, in the grammar of ssmq_precision_parse where that has it. */
static void make_name(ssmq_precision *p, ssmq_dtype usual_state) {
    char name[96];
    const char *dtype = ssmq_dtype_name(p->dtype);
    int n = 0;
    if (!ssmq_precision_is_quantized(p)) {
        n = snprintf(name, sizeof name, "%s", dtype);
    } else {
        const ssmq_format_info *w = ssmq_format_get(p->w_format);
        const ssmq_format_info *a = ssmq_format_get(p->a_format);
        n = snprintf(name, sizeof name, "%s%sw%da%d%s", p->dtype == SSMQ_BF16 ? "" : dtype,
                     p->dtype == SSMQ_BF16 ? "" : ":", p->w_bits, p->a_bits,
                     w->suffix[0] != '\0' ? w->suffix : a->suffix);
        const int32_t usual = w->group_size;
        if (p->group_size != usual && p->group_size == 0) {
            n += snprintf(name + n, sizeof name - (size_t)n, ":channel");
        } else if (p->group_size != usual) {
            n += snprintf(name + n, sizeof name - (size_t)n, ":g%d", p->group_size);
        }
    }
    if (p->state_dtype != usual_state || p->state_format != SSMQ_FORMAT_FLOAT) {
        (void)snprintf(name + n, sizeof name - (size_t)n, "/%s%s", ssmq_precision_state_name(p),
                       p->state_is_stochastic ? "-sr" : "");
    }
    ssmq_field_set(p->name, sizeof p->name, name);
}

static bool settle(draft *d, ssmq_precision *out) {
    const ssmq_value_place *place = d->place;
    ssmq_precision usual;
    ssmq_err err = {0};
    if (d->dtype == UNSET) d->dtype = SSMQ_BF16;
    if (ssmq_precision_parse(&usual, ssmq_dtype_name((ssmq_dtype)d->dtype), &err) != SSMQ_OK) {
        ssmq_fault(place->faults, place->node->mark, PATH, "%s; %s", err.text, DTYPES);
        return false;
    }
    settle_format(d, "w", &d->w_bits, &d->w_format);
    settle_format(d, "a", &d->a_bits, &d->a_format);
    if (d->group_size == UNSET) {
        d->group_size = ssmq_format_get((ssmq_format)d->w_format)->group_size;
    }
    if (d->w_format == SSMQ_FORMAT_FLOAT && d->group_size != 0) {
        char bits[LIST_BYTES];
        fail_field(d, place->node->mark, "sweep.precisions.group_size",
                   "weights that are not quantized have no groups",
                   listed(bits, LIST_GROUPED_BITS));
    }
    const bool is_state_fp32 = (d->state_dtype == UNSET || d->state_dtype == SSMQ_F32) &&
                               d->state_format == SSMQ_FORMAT_FLOAT;
    if (d->state_is_stochastic && is_state_fp32) {
        char states[LIST_BYTES];
        fail_field(d, place->node->mark, "sweep.precisions.state_rounding",
                   "a state in fp32 is not rounded", listed(states, LIST_STATES));
    }
    if (d->is_bad) return false;
    memset(out, 0, sizeof *out);
    out->dtype = (ssmq_dtype)d->dtype;
    out->w_bits = (int32_t)d->w_bits;
    out->a_bits = (int32_t)d->a_bits;
    out->w_format = (ssmq_format)d->w_format;
    out->a_format = (ssmq_format)d->a_format;
    out->group_size = (int32_t)d->group_size;
    out->state_dtype = d->state_dtype == UNSET ? usual.state_dtype : (ssmq_dtype)d->state_dtype;
    out->state_format = d->state_format;
    out->state_is_stochastic = d->state_is_stochastic;
    ssmq_field_set(out->name, sizeof out->name, d->name);
    if (d->name[0] == '\0') make_name(out, usual.state_dtype);
    ssmq_precision known;
    err = (ssmq_err){0};
    if (ssmq_precision_parse(&known, out->name, &err) == SSMQ_OK &&
        !ssmq_precision_is_same(&known, out)) {
        ssmq_fault(place->faults, place->node->mark, "sweep.precisions.name",
                   "\"%s\" is the name of other values; a name of your own", out->name);
        return false;
    }
    return true;
}

bool ssmq_precision_is_same(const ssmq_precision *a, const ssmq_precision *b) {
    return a->dtype == b->dtype && a->w_bits == b->w_bits && a->a_bits == b->a_bits &&
           a->w_format == b->w_format && a->a_format == b->a_format &&
           a->group_size == b->group_size && a->state_dtype == b->state_dtype &&
           a->state_format == b->state_format && a->state_is_stochastic == b->state_is_stochastic;
}

bool ssmq_precision_read(const ssmq_value_place *place, ssmq_precision *out) {
    const ssmq_yaml_node *node = place->node;
    if (node->kind == SSMQ_YAML_BAD) return false;
    if (node->kind == SSMQ_YAML_LIST) {
        ssmq_fault(place->faults, node->mark, place->path,
                   "is a list; a name, or a mapping with %s", FIELDS);
        return false;
    }
    if (node->kind == SSMQ_YAML_MAP) {
        draft d = {.place = place,
                   .dtype = UNSET,
                   .state_dtype = UNSET,
                   .w_bits = UNSET,
                   .a_bits = UNSET,
                   .group_size = UNSET,
                   .w_format = UNSET,
                   .a_format = UNSET};
        read_pairs(&d);
        return !d.is_bad && settle(&d, out);
    }
    char shown[SSMQ_SHOWN_BYTES], ladder[LIST_BYTES];
    const char *text = ssmq_yaml_text(place->yaml, node);
    ssmq_err err = {0};
    memset(out, 0, sizeof *out);
    if (ssmq_precision_parse(out, text, &err) == SSMQ_OK) return true;
    ssmq_fault(place->faults, node->mark, place->path,
               "%s is not a precision; %s, as fp16:NAME with another compute type, NAME:g64 or "
               "NAME:channel with other groups, or a mapping",
               ssmq_shown(shown, text), listed(ladder, LIST_LADDER));
    return false;
}

void ssmq_precision_write(const ssmq_precision *p, ssmq_str *out) {
    ssmq_str_addf(out,
                  "{name: \"%s\", dtype: %s, w_bits: %d, a_bits: %d, w_format: %s, a_format: %s, "
                  "group_size: %d, state_dtype: %s%s}",
                  p->name, ssmq_dtype_name(p->dtype), p->w_bits, p->a_bits,
                  ssmq_format_get(p->w_format)->name, ssmq_format_get(p->a_format)->name,
                  p->group_size, ssmq_precision_state_name(p),
                  p->state_is_stochastic ? ", state_rounding: stochastic" : "");
}
