/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml events into a tree. The only file that knows libyaml. Marks of libyaml count from 0.
 * Without aliases a tree is no larger than its source, so sizes are bounded by the source. */
#include "config/yaml_tree.h"

#include <stdint.h>
#include <string.h>

#include <yaml.h>

#include "base/mem.h"

static const char SYNTAX[] = "one YAML document of mappings, lists and texts";

typedef struct builder {
    ssmq_yaml *yaml;
    const ssmq_yaml_source *source;
    ssmq_faults *faults;
    int open[SSMQ_YAML_MAX_DEPTH]; /* nodes that are not closed yet */
    int depth;
    int n_documents;
    bool is_done;
} builder;

static ssmq_mark mark_at(const ssmq_yaml_source *source, size_t line, size_t column) {
    ssmq_mark mark = {source->name, (int)line + 1, (int)column + 1};
    if (line == 0) mark.column += source->first_column;
    return mark;
}

/* Mark of a byte: characters since the last line break. */
static ssmq_mark mark_of_byte(const ssmq_yaml_source *source, size_t at) {
    size_t line = 0;
    size_t column = 0;
    for (size_t i = 0; i < at && i < source->n_bytes; i++) {
        unsigned char c = (unsigned char)source->bytes[i];
        if (c == '\n') {
            line++;
            column = 0;
        } else if ((c & 0xC0) != 0x80) {
            column++;
        }
    }
    return mark_at(source, line, column);
}

static ssmq_status add_node(builder *b, ssmq_yaml_kind kind, yaml_mark_t at, int *index,
                            ssmq_err *err) {
    ssmq_yaml *yaml = b->yaml;
    SSMQ_TRY(ssmq_grow(&yaml->nodes, &yaml->capacity, yaml->n_nodes + 1, sizeof *yaml->nodes,
                       SSMQ_YAML_MAX_NODES + 1, err));
    *index = (int)yaml->n_nodes++;
    ssmq_yaml_node *node = &yaml->nodes[*index];
    memset(node, 0, sizeof *node);
    node->kind = kind;
    node->mark = mark_at(b->source, at.line, at.column);
    node->first_child = node->last_child = node->next = -1;
    if (b->depth == 0) {
        yaml->root = *index;
        return SSMQ_OK;
    }
    ssmq_yaml_node *parent = &yaml->nodes[b->open[b->depth - 1]];
    if (parent->last_child < 0) {
        parent->first_child = *index;
    } else {
        yaml->nodes[parent->last_child].next = *index;
    }
    parent->last_child = *index;
    parent->n_children++;
    return SSMQ_OK;
}

/* What ends the reading of a source: the tree so far is not used. */
static void stop(builder *b, ssmq_mark mark, const char *what, const char *allowed) {
    ssmq_fault(b->faults, mark, "yaml", "%s; %s", what, allowed);
    b->yaml->root = -1;
    b->is_done = true;
}

static void check_extras(builder *b, ssmq_mark mark, const void *anchor, const void *tag) {
    if (anchor != NULL) {
        ssmq_fault(b->faults, mark, "yaml",
                   "anchors and aliases are not supported; write the value out");
    }
    if (tag != NULL) {
        ssmq_fault(b->faults, mark, "yaml", "tags are not supported; write the value alone");
    }
}

static ssmq_status add_text(builder *b, const yaml_event_t *event, ssmq_err *err) {
    int i = -1;
    SSMQ_TRY(add_node(b, SSMQ_YAML_TEXT, event->start_mark, &i, err));
    ssmq_yaml_node *node = &b->yaml->nodes[i];
    const char *text = (const char *)event->data.scalar.value;
    size_t n_bytes = event->data.scalar.length;
    check_extras(b, node->mark, event->data.scalar.anchor, event->data.scalar.tag);
    if (memchr(text, '\0', n_bytes) != NULL) {
        ssmq_fault(b->faults, node->mark, "yaml", "a text holds a zero byte; printable text");
        node->kind = SSMQ_YAML_BAD;
        return SSMQ_OK;
    }
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text_at = b->yaml->pool.n_bytes;
    ssmq_str_add(&b->yaml->pool, text, n_bytes);
    ssmq_str_add(&b->yaml->pool, "", 1);
    return ssmq_str_check(&b->yaml->pool, "texts of a YAML file", err);
}

static ssmq_status open_node(builder *b, ssmq_yaml_kind kind, const yaml_event_t *event,
                             ssmq_err *err) {
    ssmq_mark mark = mark_at(b->source, event->start_mark.line, event->start_mark.column);
    if (b->depth == SSMQ_YAML_MAX_DEPTH) {
        stop(b, mark, "nested too deeply", "at most 8 levels");
        return SSMQ_OK;
    }
    if (kind == SSMQ_YAML_MAP) {
        check_extras(b, mark, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    } else {
        check_extras(b, mark, event->data.sequence_start.anchor, event->data.sequence_start.tag);
    }
    int i = -1;
    SSMQ_TRY(add_node(b, kind, event->start_mark, &i, err));
    b->open[b->depth++] = i;
    return SSMQ_OK;
}

static void start_document(builder *b, const yaml_event_t *event) {
    ssmq_mark mark = mark_at(b->source, event->start_mark.line, event->start_mark.column);
    if (b->n_documents++ > 0) {
        stop(b, mark, "more than one document", "one document, without \"---\" after it began");
    } else if (event->data.document_start.version_directive != NULL ||
               event->data.document_start.tag_directives.start !=
                   event->data.document_start.tag_directives.end) {
        stop(b, mark, "directives are not supported", "no line that begins with %");
    }
}

static ssmq_status take_event(builder *b, const yaml_event_t *event, ssmq_err *err) {
    ssmq_mark mark = mark_at(b->source, event->start_mark.line, event->start_mark.column);
    int i = -1;
    if (b->yaml->n_nodes >= SSMQ_YAML_MAX_NODES) {
        stop(b, mark, "too many values", "at most 20000 in a file");
        return SSMQ_OK;
    }
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        start_document(b, event);
        return SSMQ_OK;
    case YAML_SCALAR_EVENT:
        return add_text(b, event, err);
    case YAML_ALIAS_EVENT:
        check_extras(b, mark, event->data.alias.anchor, NULL);
        return add_node(b, SSMQ_YAML_BAD, event->start_mark, &i, err);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(b, SSMQ_YAML_LIST, event, err);
    case YAML_MAPPING_START_EVENT:
        return open_node(b, SSMQ_YAML_MAP, event, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return SSMQ_OK;
    case YAML_STREAM_END_EVENT:
        b->is_done = true;
        return SSMQ_OK;
    default:
        return SSMQ_OK;
    }
}

static ssmq_status report_problem(builder *b, const yaml_parser_t *parser, ssmq_err *err) {
    const ssmq_yaml_source *source = b->source;
    const char *problem = parser->problem != NULL ? parser->problem : "not YAML";
    if (parser->error == YAML_MEMORY_ERROR) {
        return SSMQ_FAIL(err, NOMEM, "%s: out of memory", source->name);
    }
    /* After text without a line break libyaml names a line that is not there. */
    bool is_past_end = parser->problem_mark.line > 0 &&
                       memchr(source->bytes, '\n', source->n_bytes) == NULL &&
                       memchr(source->bytes, '\r', source->n_bytes) == NULL;
    ssmq_mark mark = mark_at(source, parser->problem_mark.line, parser->problem_mark.column);
    if (parser->error == YAML_READER_ERROR) {
        mark = mark_of_byte(source, parser->problem_offset);
    } else if (is_past_end) {
        mark = mark_of_byte(source, source->n_bytes);
    }
    stop(b, mark, problem, SYNTAX);
    return SSMQ_OK;
}

/* Bytes that libyaml would not name well. */
static bool check_bytes(builder *b) {
    const ssmq_yaml_source *source = b->source;
    const char *zero = memchr(source->bytes, '\0', source->n_bytes);
    size_t valid = ssmq_utf8_valid_prefix(source->bytes, source->n_bytes);
    if (zero != NULL && (size_t)(zero - source->bytes) < valid) {
        size_t at = (size_t)(zero - source->bytes);
        stop(b, mark_of_byte(source, at), "a zero byte", "UTF-8 text");
    } else if (valid < source->n_bytes) {
        stop(b, mark_of_byte(source, valid), "not valid UTF-8", "UTF-8 text");
    } else if (source->n_bytes > SSMQ_YAML_MAX_BYTES) {
        stop(b, mark_at(source, 0, 0), "too long", "at most 1 MiB");
    }
    return !b->is_done;
}

ssmq_status ssmq_yaml_parse(ssmq_yaml *out, const ssmq_yaml_source *source, ssmq_faults *faults,
                            ssmq_err *err) {
    memset(out, 0, sizeof *out);
    out->root = -1;
    /* An escape such as \L is two bytes for three, and every text has a terminator. */
    ssmq_str_init(&out->pool, (size_t)4 * SSMQ_YAML_MAX_BYTES);
    builder b = {.yaml = out, .source = source, .faults = faults};
    if (!check_bytes(&b)) return SSMQ_OK;

    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return SSMQ_FAIL(err, NOMEM, "YAML: out of memory");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)source->bytes, source->n_bytes);
    ssmq_status status = SSMQ_OK;
    while (!b.is_done && status == SSMQ_OK) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = report_problem(&b, &parser, err);
            break;
        }
        status = take_event(&b, &event, err);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (status != SSMQ_OK) ssmq_yaml_free(out);
    return status;
}

void ssmq_yaml_free(ssmq_yaml *yaml) {
    ssmq_free(yaml->nodes);
    ssmq_str_free(&yaml->pool);
    memset(yaml, 0, sizeof *yaml);
    yaml->root = -1;
}

const ssmq_yaml_node *ssmq_yaml_get(const ssmq_yaml *yaml, int i) {
    return i >= 0 && (size_t)i < yaml->n_nodes ? &yaml->nodes[i] : NULL;
}

const char *ssmq_yaml_text(const ssmq_yaml *yaml, const ssmq_yaml_node *node) {
    return yaml->pool.text + node->text_at;
}

const char *ssmq_yaml_kind_name(ssmq_yaml_kind kind) {
    static const char *const names[] = {"a text", "a list", "a mapping", "not readable"};
    return names[kind];
}
