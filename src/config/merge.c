/* SPDX-License-Identifier: Apache-2.0 */
/* Sources into the configuration: a source's includes first, then its own keys, each over what was
 * there before. Lists are replaced, not appended to. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "config/reading.h"
#include "config/values.h"

static const char SET_NAME[] = "--set";
static const char DEFAULTS_NAME[] = "defaults";

static size_t key_index(const ssmq_key *key) {
    return (size_t)(key - ssmq_key_get(0));
}

/* Names of all keys of a section, or of all sections (section NULL), separated by ", ". */
static void list_names(char *out, size_t n_bytes, const char *section) {
    size_t n = 0;
    const char *last = "";
    out[0] = '\0';
    for (size_t i = 0; i < SSMQ_N_KEYS && n < n_bytes; i++) {
        const ssmq_key *key = ssmq_key_get(i);
        const char *name = section != NULL ? key->name : key->section;
        if (section != NULL ? strcmp(key->section, section) != 0 : strcmp(name, last) == 0)
            continue;
        int written = snprintf(out + n, n_bytes - n, "%s%s", n > 0 ? ", " : "", name);
        n += written > 0 ? (size_t)written : 0;
        last = name;
    }
}

/* The nearest name of the same kind, if it is near enough to be meant; NULL if not. */
static const char *nearest_name(const char *section, const char *text) {
    const char *best = NULL;
    size_t best_distance = strlen(text) <= 4 ? 2 : 3;
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        const ssmq_key *key = ssmq_key_get(i);
        if (section != NULL && strcmp(key->section, section) != 0) continue;
        const char *name = section != NULL ? key->name : key->section;
        size_t distance = ssmq_edit_distance(text, name);
        if (distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
    return best;
}

/* section NULL: text was meant to be a section. */
static void fail_unknown(ssmq_reading *reading, ssmq_mark mark, const char *section,
                         const char *text) {
    char key[SSMQ_FAULT_KEY_BYTES];
    char shown[SSMQ_SHOWN_BYTES];
    char allowed[512];
    char guess[96] = "";
    list_names(allowed, sizeof allowed, section);
    const char *nearest = nearest_name(section, text);
    if (nearest != NULL) (void)snprintf(guess, sizeof guess, ", did you mean %s?", nearest);
    (void)ssmq_shown(shown, text);
    size_t length = strlen(shown);
    (void)snprintf(key, sizeof key, "%s%s%.*s", section != NULL ? section : "",
                   section != NULL ? "." : "", (int)(length - 2), shown + 1);
    ssmq_fault(&reading->faults, mark, key, "unknown %s%s; %s%s",
               section != NULL ? "key" : "section", guess, section != NULL ? "" : "include, ",
               allowed);
}

/* True, and a fault, if a key before `name` in the mapping has the same text. */
static bool is_duplicate(ssmq_reading *reading, const ssmq_yaml *yaml, const ssmq_yaml_node *map,
                         const ssmq_yaml_node *name, const char *path) {
    const char *text = ssmq_yaml_text(yaml, name);
    const ssmq_yaml_node *other = ssmq_yaml_get(yaml, map->first_child);
    while (other != NULL && other != name) {
        if (other->kind == SSMQ_YAML_TEXT && strcmp(ssmq_yaml_text(yaml, other), text) == 0) {
            ssmq_fault(&reading->faults, name->mark, path,
                       "duplicate key, first on line %d; each key once", other->mark.line);
            return true;
        }
        const ssmq_yaml_node *value = ssmq_yaml_get(yaml, other->next);
        other = value != NULL ? ssmq_yaml_get(yaml, value->next) : NULL;
    }
    return false;
}

/* A text that may stand as a key, and a mapping that is not absurdly large. */
static bool is_usable_map(ssmq_reading *reading, const ssmq_yaml_node *map, const char *path) {
    if (map->n_children / 2 <= SSMQ_YAML_MAX_PAIRS) return true;
    ssmq_fault(&reading->faults, map->mark, path, "%d keys; at most %d", map->n_children / 2,
               SSMQ_YAML_MAX_PAIRS);
    return false;
}

static bool is_usable_name(ssmq_reading *reading, const ssmq_yaml_node *name, const char *path) {
    if (name->kind == SSMQ_YAML_TEXT) return true;
    if (name->kind != SSMQ_YAML_BAD) {
        ssmq_fault(&reading->faults, name->mark, path, "%s stands as a key; a text",
                   ssmq_yaml_kind_name(name->kind));
    }
    return false;
}

static bool check_repeated(const ssmq_key *key, const ssmq_value_place *place,
                           const ssmq_config *config, size_t i) {
    for (size_t j = 0; j < i; j++) {
        if (!ssmq_value_is_equal(key, ssmq_key_value(key, config, i),
                                 ssmq_key_value(key, config, j))) {
            continue;
        }
        ssmq_fault(place->faults, place->node->mark, place->path,
                   "value %zu equals value %zu; each value once", i + 1, j + 1);
        return false;
    }
    return true;
}

/* A list, or one value in its place. False if anything is wrong with it. */
static bool read_list(ssmq_reading *reading, const ssmq_key *key, ssmq_value_place place) {
    const ssmq_yaml_node *list = place.node;
    ssmq_config *config = reading->config;
    if (list->kind != SSMQ_YAML_LIST) {
        if (!ssmq_value_read(key, &place, ssmq_key_value_mut(key, config, 0))) return false;
        ssmq_key_set_count(key, config, 1);
        return true;
    }
    if (list->n_children == 0) {
        ssmq_fault(place.faults, list->mark, place.path, "is an empty list; at least one value");
        return false;
    }
    bool is_fine = true;
    size_t n = 0;
    for (int i = list->first_child; i >= 0; i = place.node->next) {
        place.node = ssmq_yaml_get(place.yaml, i);
        if (n == key->max_values) {
            ssmq_fault(place.faults, place.node->mark, place.path, "%d values; at most %zu",
                       list->n_children, key->max_values);
            return false;
        }
        bool is_read = ssmq_value_read(key, &place, ssmq_key_value_mut(key, config, n));
        is_fine = is_fine && is_read;
        if (!is_read) continue;
        if (!check_repeated(key, &place, config, n)) is_fine = false;
        n++;
    }
    ssmq_key_set_count(key, config, n);
    return is_fine;
}

static void set_key(ssmq_reading *reading, const ssmq_yaml *yaml, const ssmq_key *key,
                    const ssmq_yaml_node *value) {
    char path[SSMQ_FAULT_KEY_BYTES];
    (void)snprintf(path, sizeof path, "%s.%s", key->section, key->name);
    ssmq_value_place place = {yaml, value, path, &reading->faults};
    bool is_fine = key->is_list
                       ? read_list(reading, key, place)
                       : ssmq_value_read(key, &place, ssmq_key_value_mut(key, reading->config, 0));
    size_t i = key_index(key);
    reading->origin[i] = value->mark;
    reading->is_default[i] = reading->reads_defaults;
    if (!is_fine) reading->is_bad[i] = true;
}

static bool is_nothing(const ssmq_yaml *yaml, const ssmq_yaml_node *node) {
    return node->kind == SSMQ_YAML_TEXT && node->is_plain && ssmq_yaml_text(yaml, node)[0] == '\0';
}

static void set_section(ssmq_reading *reading, const ssmq_yaml *yaml, const char *section,
                        const ssmq_yaml_node *map) {
    if (map->kind == SSMQ_YAML_BAD || is_nothing(yaml, map)) return;
    if (map->kind != SSMQ_YAML_MAP) {
        char allowed[512];
        list_names(allowed, sizeof allowed, section);
        ssmq_fault(&reading->faults, map->mark, section, "is %s; a mapping with the keys %s",
                   ssmq_yaml_kind_name(map->kind), allowed);
        return;
    }
    if (!is_usable_map(reading, map, section)) return;
    const ssmq_yaml_node *name = ssmq_yaml_get(yaml, map->first_child);
    while (name != NULL) {
        const ssmq_yaml_node *value = ssmq_yaml_get(yaml, name->next);
        if (value == NULL) return;
        if (is_usable_name(reading, name, section)) {
            const char *text = ssmq_yaml_text(yaml, name);
            const ssmq_key *key = ssmq_key_find(section, text);
            char path[SSMQ_FAULT_KEY_BYTES];
            if (key == NULL) {
                fail_unknown(reading, name->mark, section, text);
            } else {
                (void)snprintf(path, sizeof path, "%s.%s", section, key->name);
                if (!is_duplicate(reading, yaml, map, name, path)) {
                    set_key(reading, yaml, key, value);
                }
            }
        }
        name = ssmq_yaml_get(yaml, value->next);
    }
}

static ssmq_status add_file(ssmq_reading *reading, const char *path, ssmq_mark mark,
                            const char *key, ssmq_err *err);

/* Path of an included file, relative to the file that includes it.  Fails: CONFIG (too long). */
static ssmq_status include_path(char *out, const char *from, const char *name, ssmq_err *err) {
    char folder[SSMQ_PATH_BYTES];
    const char *slash = strrchr(from, '/');
    size_t length = slash != NULL ? (size_t)(slash - from) : 0;
    bool is_alone = slash == NULL || name[0] == '/';
    if (length >= sizeof folder || strlen(name) >= SSMQ_PATH_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "path too long");
    }
    if (is_alone) {
        (void)snprintf(out, SSMQ_PATH_BYTES, "%s", name);
        return SSMQ_OK;
    }
    memcpy(folder, from, length);
    folder[length] = '\0';
    if (length == 0) (void)snprintf(folder, sizeof folder, "/");
    return ssmq_path_join(out, folder, name, err);
}

static ssmq_status include_one(ssmq_reading *reading, const ssmq_yaml *yaml,
                               const ssmq_yaml_node *node, ssmq_err *err) {
    if (node->kind == SSMQ_YAML_BAD) return SSMQ_OK;
    const char *name = node->kind == SSMQ_YAML_TEXT ? ssmq_yaml_text(yaml, node) : "";
    if (name[0] == '\0') {
        ssmq_fault(&reading->faults, node->mark, "include", "is %s; a file name or a list of them",
                   node->kind == SSMQ_YAML_TEXT ? "empty" : ssmq_yaml_kind_name(node->kind));
        return SSMQ_OK;
    }
    char path[SSMQ_PATH_BYTES];
    ssmq_err bad = {0};
    if (include_path(path, node->mark.source, name, &bad) != SSMQ_OK) {
        ssmq_fault(&reading->faults, node->mark, "include", "%s; at most 1023 bytes", bad.text);
        return SSMQ_OK;
    }
    return add_file(reading, path, node->mark, "include", err);
}

static ssmq_status include_all(ssmq_reading *reading, const ssmq_yaml *yaml,
                               const ssmq_yaml_node *root, ssmq_err *err) {
    const ssmq_yaml_node *name = ssmq_yaml_get(yaml, root->first_child);
    while (name != NULL) {
        const ssmq_yaml_node *value = ssmq_yaml_get(yaml, name->next);
        if (value == NULL) return SSMQ_OK;
        if (name->kind == SSMQ_YAML_TEXT && strcmp(ssmq_yaml_text(yaml, name), "include") == 0) {
            if (is_duplicate(reading, yaml, root, name, "include")) return SSMQ_OK;
            if (value->kind != SSMQ_YAML_LIST) {
                SSMQ_TRY(include_one(reading, yaml, value, err));
            } else {
                const ssmq_yaml_node *item = ssmq_yaml_get(yaml, value->first_child);
                for (; item != NULL; item = ssmq_yaml_get(yaml, item->next)) {
                    SSMQ_TRY(include_one(reading, yaml, item, err));
                }
            }
        }
        name = ssmq_yaml_get(yaml, value->next);
    }
    return SSMQ_OK;
}

/* Everything a document says, its includes first. */
static ssmq_status take_document(ssmq_reading *reading, const ssmq_yaml *yaml, ssmq_err *err) {
    const ssmq_yaml_node *root = ssmq_yaml_get(yaml, yaml->root);
    if (root == NULL || root->kind == SSMQ_YAML_BAD || is_nothing(yaml, root)) return SSMQ_OK;
    if (root->kind != SSMQ_YAML_MAP) {
        char allowed[128];
        list_names(allowed, sizeof allowed, NULL);
        ssmq_fault(&reading->faults, root->mark, "yaml",
                   "the file is %s; a mapping with the sections include, %s",
                   ssmq_yaml_kind_name(root->kind), allowed);
        return SSMQ_OK;
    }
    if (!is_usable_map(reading, root, "yaml")) return SSMQ_OK;
    SSMQ_TRY(include_all(reading, yaml, root, err));
    const ssmq_yaml_node *name = ssmq_yaml_get(yaml, root->first_child);
    while (name != NULL) {
        const ssmq_yaml_node *value = ssmq_yaml_get(yaml, name->next);
        if (value == NULL) return SSMQ_OK;
        if (is_usable_name(reading, name, "yaml")) {
            const char *text = ssmq_yaml_text(yaml, name);
            bool is_section = ssmq_key_section_exists(text);
            if (!is_section && strcmp(text, "include") != 0) {
                fail_unknown(reading, name->mark, NULL, text);
            } else if (is_section && !is_duplicate(reading, yaml, root, name, text)) {
                set_section(reading, yaml, text, value);
            }
        }
        name = ssmq_yaml_get(yaml, value->next);
    }
    return SSMQ_OK;
}

static ssmq_status take_bytes(ssmq_reading *reading, const ssmq_yaml_source *source,
                              ssmq_err *err) {
    ssmq_yaml yaml;
    SSMQ_TRY(ssmq_yaml_parse(&yaml, source, &reading->faults, err));
    ssmq_status status = take_document(reading, &yaml, err);
    ssmq_yaml_free(&yaml);
    return status;
}

/* False, and a fault, if the file may not be read here: a cycle, too deep, too many. */
static bool may_enter(ssmq_reading *reading, const char *path, ssmq_mark mark, const char *key) {
    if (reading->n_names == SSMQ_MAX_CONFIG_FILES) {
        ssmq_fault(&reading->faults, mark, key, "too many files; at most %d",
                   SSMQ_MAX_CONFIG_FILES);
        return false;
    }
    if (reading->depth == SSMQ_MAX_INCLUDE_DEPTH) {
        ssmq_fault(&reading->faults, mark, key, "%s: includes nested too deeply; at most %d", path,
                   SSMQ_MAX_INCLUDE_DEPTH);
        return false;
    }
    struct stat info;
    if (stat(path, &info) != 0) return true; /* reading it will say why */
    for (int i = 0; i < reading->depth; i++) {
        if (reading->chain[i].device == info.st_dev && reading->chain[i].inode == info.st_ino) {
            ssmq_fault(&reading->faults, mark, key,
                       "%s includes itself; a file that does not lead back here", path);
            return false;
        }
    }
    reading->chain[reading->depth] = (ssmq_open_file){info.st_dev, info.st_ino};
    return true;
}

static ssmq_status add_file(ssmq_reading *reading, const char *path, ssmq_mark mark,
                            const char *key, ssmq_err *err) {
    if (!may_enter(reading, path, mark, key)) return SSMQ_OK;
    char *bytes = NULL;
    size_t n_bytes = 0;
    ssmq_err unread = {0};
    ssmq_status status = ssmq_file_read(&bytes, &n_bytes, path, SSMQ_YAML_MAX_BYTES, &unread);
    if (status == SSMQ_NOMEM) return SSMQ_FAIL(err, NOMEM, "%s", unread.text);
    if (status != SSMQ_OK) {
        ssmq_fault(&reading->faults, mark, key, "%s; a readable file of at most 1 MiB",
                   unread.text);
        return SSMQ_OK;
    }
    char *name = NULL;
    status = ssmq_strndup(&name, path, strlen(path), err);
    if (status == SSMQ_OK) {
        reading->names[reading->n_names++] = name;
        reading->depth++;
        ssmq_yaml_source source = {name, bytes, n_bytes, 0};
        status = take_bytes(reading, &source, err);
        reading->depth--;
    }
    ssmq_free(bytes);
    return status;
}

ssmq_status ssmq_reading_add_file(ssmq_reading *reading, const char *path, ssmq_err *err) {
    ssmq_mark mark = {path, 1, 1};
    return add_file(reading, path, mark, "file", err);
}

ssmq_status ssmq_reading_add_set(ssmq_reading *reading, const char *text, ssmq_err *err) {
    ssmq_mark mark = {SET_NAME, 1, 1};
    char shown[SSMQ_SHOWN_BYTES];
    char section[32] = "";
    char name[SSMQ_FAULT_KEY_BYTES] = "";
    const char *equals = strchr(text, '=');
    size_t n_key = equals != NULL ? (size_t)(equals - text) : 0;
    const char *dot = memchr(text, '.', n_key);
    size_t n_section = dot != NULL ? (size_t)(dot - text) : 0;
    if (equals == NULL || dot == NULL || n_section >= sizeof section ||
        n_key - n_section > sizeof name) {
        ssmq_fault(&reading->faults, mark, SET_NAME,
                   "%s is not section.key=value; "
                   "for example ppl.seq_len=512",
                   ssmq_shown(shown, text));
        return SSMQ_OK;
    }
    memcpy(section, text, n_section);
    memcpy(name, dot + 1, n_key - n_section - 1);
    const ssmq_key *key = ssmq_key_find(section, name);
    if (key == NULL) {
        bool is_section = ssmq_key_section_exists(section);
        fail_unknown(reading, mark, is_section ? section : NULL, is_section ? name : section);
        return SSMQ_OK;
    }
    ssmq_yaml yaml;
    ssmq_yaml_source source = {SET_NAME, equals + 1, strlen(equals + 1), (int)n_key + 1};
    size_t n_faults = reading->faults.n;
    SSMQ_TRY(ssmq_yaml_parse(&yaml, &source, &reading->faults, err));
    const ssmq_yaml_node *root = ssmq_yaml_get(&yaml, yaml.root);
    if (root != NULL) {
        set_key(reading, &yaml, key, root);
    } else if (reading->faults.n == n_faults) {
        char path[SSMQ_FAULT_KEY_BYTES];
        (void)snprintf(path, sizeof path, "%s.%s", key->section, key->name);
        mark.column = source.first_column + 1;
        ssmq_fault(&reading->faults, mark, path, "has no value; '\"\"' for an empty text");
    }
    ssmq_yaml_free(&yaml);
    return SSMQ_OK;
}

ssmq_status ssmq_reading_add_defaults(ssmq_reading *reading, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, SSMQ_YAML_MAX_BYTES);
    const char *section = "";
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        const ssmq_key *key = ssmq_key_get(i);
        if (strcmp(section, key->section) != 0) ssmq_str_addf(&text, "%s:\n", key->section);
        ssmq_str_addf(&text, "  %s: %s\n", key->name, key->default_yaml);
        section = key->section;
    }
    ssmq_status status = ssmq_str_check(&text, "defaults", err);
    if (status == SSMQ_OK) {
        ssmq_yaml_source source = {DEFAULTS_NAME, ssmq_str_get(&text), text.n_bytes, 0};
        reading->reads_defaults = true;
        status = take_bytes(reading, &source, err);
        reading->reads_defaults = false;
    }
    ssmq_str_free(&text);
    return status;
}

void ssmq_reading_free(ssmq_reading *reading) {
    for (size_t i = 0; i < reading->n_names; i++) ssmq_free(reading->names[i]);
    reading->n_names = 0;
}
