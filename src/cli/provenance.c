/* SPDX-License-Identifier: Apache-2.0 */
/* cli/provenance.c - provenance.json is {"facts": {name: text, ...}, "sessions": [{...}, ...]}. */
#include "cli/provenance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/version.h"
#include "json/json.h"

enum { MAX_BYTES = 1 << 24, HOST_BYTES = 256 };

extern char **environ;

static void add_member(ssmq_str *out, bool is_first, const char *name, const char *text) {
    ssmq_str_add(out, is_first ? "\n    " : ",\n    ", is_first ? 5 : 6);
    ssmq_str_add_json(out, name, strlen(name));
    ssmq_str_add(out, ": ", 2);
    ssmq_str_add_json(out, text, strlen(text));
}

static void add_facts(ssmq_str *out, const char *run_id, const ssmq_loaded *loaded,
                      const ssmq_session *session) {
    char created[SSMQ_UTC_BYTES];
    ssmq_utc_iso(created);
    const ssmq_inputs *inputs = &loaded->inputs;
    const char *const facts[][2] = {
        {"run_id", run_id},
        {"created_utc", created},
        {"ssmq_version", ssmq_version()},
        {"git_commit", ssmq_git_commit()},
        {"numerics_version", SSMQ_NUMERICS_VERSION},
        {"compiler", ssmq_compiler()},
        {"mpi", session->mpi_version},
        {"hdf5", ssmq_store_hdf5_version()},
        {"device", inputs->device},
        {"model_path", loaded->config.model.path},
        {"model_name", inputs->model_name},
        {"model_revision", loaded->config.model.revision},
        {"model_sha256", inputs->model_sha256},
        {"tokenizer_sha256", inputs->tokenizer_sha256},
        {"text_path", inputs->text_sha256[0] != '\0' ? loaded->config.ppl.text : ""},
        {"text_sha256", inputs->text_sha256},
        {"filler_sha256", inputs->filler_sha256},
    };
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        add_member(out, i == 0, facts[i][0], facts[i][1]);
    }
}

/* Slurm's view of the job, the devices it gave, and what tunes the libraries in use. */
static bool is_recorded_variable(const char *entry) {
    static const char *const prefixes[] = {
        "SLURM_", "SLURMD_NODENAME=", "CUDA_VISIBLE_DEVICES=", "NCCL_", "OMP_", "OPENBLAS_",
        "CUBLAS"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0) return true;
    }
    return false;
}

static void add_session(ssmq_str *out, const ssmq_session *session) {
    char now[SSMQ_UTC_BYTES];
    char host[HOST_BYTES] = "";
    ssmq_utc_iso(now);
    (void)gethostname(host, sizeof host - 1);
    ssmq_str_add(out, "    {", 5);
    ssmq_str_addf(out, "\"started_utc\": \"%s\", \"n_ranks\": %d, \"root_host\": ", now,
                  session->n_ranks);
    ssmq_str_add_json(out, host, strlen(host));
    ssmq_str_addf(out, ", \"weights\": ");
    ssmq_weights_json(&session->weights, out);
    ssmq_str_addf(out, ", \"git_commit\": \"%s\", \"argv\": [", ssmq_git_commit());
    for (int i = 0; i < session->argc; i++) {
        if (i > 0) ssmq_str_add(out, ", ", 2);
        ssmq_str_add_json(out, session->argv[i], strlen(session->argv[i]));
    }
    ssmq_str_add(out, "], \"environment\": {", 19);
    bool is_first = true;
    for (char **entry = environ; *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL || !is_recorded_variable(*entry)) continue;
        if (!is_first) ssmq_str_add(out, ", ", 2);
        ssmq_str_add_json(out, *entry, (size_t)(equals - *entry));
        ssmq_str_add(out, ": ", 2);
        ssmq_str_add_json(out, equals + 1, strlen(equals + 1));
        is_first = false;
    }
    ssmq_str_add(out, "}}", 2);
}

/* The text of the file up to its closing brackets, so that a session can be put behind. */
static const char tail[] = "\n  ]\n}\n";

static ssmq_status end_file(ssmq_str *out, const char *path, ssmq_err *err) {
    ssmq_str_add(out, tail, sizeof tail - 1);
    SSMQ_TRY(ssmq_str_check(out, path, err));
    return ssmq_file_replace(path, out->text, out->n_bytes, err);
}

static ssmq_status add_old_sessions(ssmq_str *out, const char *path, ssmq_err *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, MAX_BYTES, err));
    ssmq_status status = SSMQ_OK;
    size_t n_tail = sizeof tail - 1;
    if (n_bytes < n_tail || memcmp(text + n_bytes - n_tail, tail, n_tail) != 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s: damaged: it does not end as ssmq wrote it", path);
    } else {
        ssmq_str_add(out, text, n_bytes - n_tail);
        ssmq_str_add(out, ",\n", 2);
    }
    ssmq_free(text);
    return status;
}

ssmq_status ssmq_provenance_add(const char *run_dir, const char *run_id, const ssmq_loaded *loaded,
                                const ssmq_session *session, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, run_dir, "provenance.json", err));
    ssmq_str out;
    ssmq_str_init(&out, MAX_BYTES);
    ssmq_status status = SSMQ_OK;
    if (ssmq_path_exists(path)) {
        SSMQ_TRY_OR(add_old_sessions(&out, path, err), free_out);
    } else {
        ssmq_str_addf(&out, "{\n  \"facts\": {");
        add_facts(&out, run_id, loaded, session);
        ssmq_str_addf(&out, "\n  },\n  \"sessions\": [\n");
    }
    add_session(&out, session);
    status = end_file(&out, path, err);
free_out:
    ssmq_str_free(&out);
    return status;
}

static ssmq_status take_fact(ssmq_provenance *out, const char *name, const char *text,
                             size_t n_bytes, ssmq_err *err) {
    if (out->n_facts == SSMQ_MAX_FACTS) {
        return SSMQ_FAIL(err, CONFIG, "provenance.json: more than %d facts", SSMQ_MAX_FACTS);
    }
    ssmq_fact *fact = &out->facts[out->n_facts];
    SSMQ_TRY(ssmq_strndup(&out->texts[out->n_facts], text, n_bytes, err));
    ssmq_field_set(fact->name, sizeof fact->name, name);
    fact->text = out->texts[out->n_facts];
    out->n_facts++;
    return SSMQ_OK;
}

static ssmq_status read_facts(ssmq_provenance *out, const char *path, ssmq_err *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    ssmq_json *document = NULL;
    const ssmq_json *facts = NULL;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, MAX_BYTES, err));
    SSMQ_TRY_OR(ssmq_json_parse(&document, text, n_bytes, path, err), free_text);
    if (!ssmq_json_get(document, "facts", &facts)) {
        status = SSMQ_FAIL(err, CONFIG, "%s: facts are missing", path);
    }
    for (ssmq_json_iter it = ssmq_json_begin(facts); status == SSMQ_OK && ssmq_json_next(&it);) {
        size_t n_fact = 0;
        const char *fact = ssmq_json_string(it.value, &n_fact);
        if (fact != NULL) status = take_fact(out, it.key, fact, n_fact, err);
    }
    const char *sessions = strstr(text, "\"sessions\": ");
    if (status == SSMQ_OK && sessions != NULL) {
        sessions += strlen("\"sessions\": ");
        status = take_fact(out, "sessions", sessions, strlen(sessions) - strlen("\n}\n"), err);
    }
    ssmq_json_free(document);
free_text:
    ssmq_free(text);
    return status;
}

/* provenance.json of a run folder. */
static ssmq_status read_file(ssmq_provenance *out, const char *run_dir, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    memset(out, 0, sizeof *out);
    SSMQ_TRY(ssmq_path_join(path, run_dir, "provenance.json", err));
    return read_facts(out, path, err);
}

ssmq_status ssmq_provenance_read(ssmq_provenance *out, const char *run_dir, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(read_file(out, run_dir, err), fail);
    SSMQ_TRY_OR(ssmq_path_join(path, run_dir, "config_resolved.yaml", err), fail);
    SSMQ_TRY_OR(ssmq_file_read(&text, &n_bytes, path, MAX_BYTES, err), fail);
    SSMQ_TRY_OR(take_fact(out, "config", text, n_bytes, err), fail);
    ssmq_free(text);
    return SSMQ_OK;
fail:
    ssmq_free(text);
    ssmq_provenance_free(out);
    return status;
}

void ssmq_provenance_free(ssmq_provenance *provenance) {
    for (size_t i = 0; i < provenance->n_facts; i++) ssmq_free(provenance->texts[i]);
    memset(provenance, 0, sizeof *provenance);
}

const char *ssmq_provenance_get(const ssmq_provenance *provenance, const char *name) {
    for (size_t i = 0; i < provenance->n_facts; i++) {
        if (strcmp(provenance->facts[i].name, name) == 0) return provenance->texts[i];
    }
    return NULL;
}

static bool has_line(const char *text, const char *line, size_t length) {
    for (const char *at = strstr(text, "    {"); at != NULL; at = strstr(at + 1, "    {")) {
        if (strncmp(at, line, length) == 0) return true;
    }
    return false;
}

/* Lines of the list of sessions that `out` has not. */
static void add_new_sessions(ssmq_str *out, const char *sessions, bool *is_first) {
    for (const char *line = strchr(sessions, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        size_t length = strcspn(line, "\n");
        if (length > 0 && line[length - 1] == ',') length--;
        if (strncmp(line, "    {", 5) != 0) continue;
        if (has_line(ssmq_str_get(out), line, length)) continue;
        if (!*is_first) ssmq_str_add(out, ",\n", 2);
        ssmq_str_add(out, line, length);
        *is_first = false;
    }
}

static ssmq_status add_sessions_of(ssmq_str *out, const char *run_dir, bool *is_first,
                                   ssmq_err *err) {
    ssmq_provenance provenance = {0};
    ssmq_status status = read_file(&provenance, run_dir, err);
    const char *sessions = status == SSMQ_OK ? ssmq_provenance_get(&provenance, "sessions") : NULL;
    if (sessions != NULL) add_new_sessions(out, sessions, is_first);
    ssmq_provenance_free(&provenance);
    return status;
}

static ssmq_status add_facts_of(ssmq_str *out, const char *run_dir, const char *run_id,
                                ssmq_err *err) {
    ssmq_provenance provenance = {0};
    ssmq_status status = read_file(&provenance, run_dir, err);
    for (size_t i = 0; i < provenance.n_facts && status == SSMQ_OK; i++) {
        const char *name = provenance.facts[i].name;
        if (strcmp(name, "sessions") == 0) continue;
        add_member(out, i == 0, name, strcmp(name, "run_id") == 0 ? run_id : provenance.texts[i]);
    }
    ssmq_provenance_free(&provenance);
    return status;
}

ssmq_status ssmq_provenance_unite(const char *into, const char *run_id, const char *const *runs,
                                  size_t n_runs, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    bool is_first = true;
    ssmq_str out;
    SSMQ_TRY(ssmq_path_join(path, into, "provenance.json", err));
    ssmq_str_init(&out, MAX_BYTES);
    ssmq_status status = SSMQ_OK;
    ssmq_str_addf(&out, "{\n  \"facts\": {");
    SSMQ_TRY_OR(add_facts_of(&out, runs[0], run_id, err), free_out);
    ssmq_str_addf(&out, "\n  },\n  \"sessions\": [\n");
    if (ssmq_path_exists(path)) SSMQ_TRY_OR(add_sessions_of(&out, into, &is_first, err), free_out);
    for (size_t i = 0; i < n_runs; i++) {
        SSMQ_TRY_OR(add_sessions_of(&out, runs[i], &is_first, err), free_out);
    }
    status = end_file(&out, path, err);
free_out:
    ssmq_str_free(&out);
    return status;
}
