/* SPDX-License-Identifier: Apache-2.0 */
/* A run's records and samples as one HDF5 file.
 *
 * THE FILE IS DERIVED: everything in it comes from the journals, and writing it again from equal
 * rows and facts gives equal bytes (no times, names in fixed order). It is written under a
 * temporary name in the same folder, synced and renamed, so readers see the old file or the new
 * one, whole.
 *
 * / (root): a netCDF-4 data set, for xarray.open_dataset with either engine. Every axis of every
 * variable has an attached dimension scale; no compound, enumeration or boolean is here.
 *   coordinates
 *     protocol   text   disjoint, sliding, stream, rolling, half_window
 *     prompt_template  text  of passkey, in order of the rows
 *     precision  text   in order of the rows
 *     scope      text   modules that are quantized, "none" for unquantized precisions
 *     context    int32  tokens, ascending: window (ppl), prompt (passkey) or prefill (profile)
 *     batch      int32  sequences, ascending: of the profile
 *     seed       int64  ascending
 *   variables (float64; NaN where nothing was run or the trial failed; attributes units, long_name,
 *   _FillValue), named as the fields of record/record_fields.h
 *     of ppl      (protocol, precision, scope, context, seed)   ppl, nll_mean, n_tokens, ...
 *     of passkey  (prompt_template, precision, scope, context, seed)  accuracy, ...
 *     of profile  (precision, scope, context, batch, seed)      prefill_ms, decode_ms, ...
 *     of drift    (precision, scope, context, seed)             drift_error_final, ...
 *     ppl_status, passkey_status, profile_status: int8 over the same axes, with CF flag_values and
 *     flag_meanings; -1 not_run
 *   An axis is there whether or not it has more than one value, so that the same expression reads
 *   every run; only axes that can change a task's numbers belong to its variables. A row that names
 *   no place on an axis is in the table alone.
 *   attributes: Conventions, title, source, history, schema_version, created, run_id, complete (1
 * if every planned trial has a row), n_trials_planned, n_trials_ok, n_trials_failed,
 *   n_trials_skipped
 *
 * /table/trials [trial]: one compound row a trial with every field: fixed UTF-8 text, int64 (-1:
 *   null), float64 (NaN: null); for h5py and pandas (netCDF's library, 4.10.1, crashes when it
 *   reads texts inside compounds, though not when it opens the file). /table/trial: its index.
 * /table/fields [field]: compound (name, kind, type, unit, doc) of each of those fields.
 *   /table/field: their names.
 *
 * /samples/<series>/: the trials that have the series (names in record/series_table.h), as a CF
 *   contiguous ragged array. xarray opens each group.
 *     values   [sample]  float64, the trials' values one trial after another
 *     sample   [sample]  int32, place of the value in its trial's series
 *     trial    [trial]   int32, row of /table/trials
 *     row_size [trial]   int32, values of the trial
 *   In Python: np.split(values, np.cumsum(row_size)[:-1]).
 *
 * /drift/<row>/: one group for each drift trial, named by its row of /table/trials; xarray opens
 *   each. Attributes trial_id, precision, scope, baseline, drift_path; dimension scales step
 *   (tokens), sequence, layer, head, bin (least half-life, tokens), where there was an impulse also
 *   impulse_step (tokens after it); float64 arrays named as the series in record/series_table.h:
 *     over (step, sequence, layer, head)  drift_error, drift_cosine, drift_norm_ratio,
 *                                         drift_injected_error, drift_floor
 *     over (step, sequence, layer)        drift_conv_error, drift_n_saturated, ...
 *     over (step, sequence)               drift_kl, drift_same_top, ...
 *     over (layer, head)                  drift_half_life
 *     over (step), (step, layer), (step, bin) and (layer): their root mean squares and exponents
 *
 * /provenance/<name>: scalar texts: the resolved configuration, versions, hashes, environment.
 *
 * Every chunk is shuffled, packed by gzip and has a Fletcher-32 checksum; metadata has the
 * checksums of the HDF5 1.8 format, which every reader since 2008 knows. Texts of variable length
 * (coordinates, provenance) lie in HDF5's heap, which has no checksum. */
#include "store/store.h"

#include <string.h>

#include <hdf5.h>

#include "base/file.h"
#include "base/mem.h"
#include "store/parts.h"

static const char schema_convention[] = "CF-1.10 ssmq-1";

enum { MEMORY_STEP_BYTES = 16 * 1024 * 1024 };

typedef struct counts {
    size_t n_ok, n_failed, n_skipped;
    char run_id[sizeof(((ssmq_record *)0)->run_id)];
    char last_started[sizeof(((ssmq_record *)0)->started_utc)];
} counts;

static void count(counts *c, const ssmq_record *record) {
    if (strcmp(record->status, ssmq_status_name(SSMQ_OK)) == 0) {
        c->n_ok++;
    } else if (strcmp(record->status, ssmq_status_name(SSMQ_SKIP)) == 0) {
        c->n_skipped++;
    } else {
        c->n_failed++;
    }
    if (c->run_id[0] == '\0') ssmq_field_set(c->run_id, sizeof c->run_id, record->run_id);
    if (strcmp(record->started_utc, c->last_started) > 0) {
        ssmq_field_set(c->last_started, sizeof c->last_started, record->started_utc);
    }
}

/* Text of a fact, or what stands in for it. */
static const char *fact_or(const ssmq_fact *facts, size_t n_facts, const char *name,
                           const char *otherwise) {
    for (size_t i = 0; i < n_facts; i++) {
        if (strcmp(facts[i].name, name) == 0) return facts[i].text;
    }
    return otherwise;
}

static ssmq_status write_text_attributes(const h5_file *file, const counts *c,
                                         const ssmq_fact *facts, size_t n_facts, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    const char *run_id = fact_or(facts, n_facts, "run_id", c->run_id);
    const char *version = fact_or(facts, n_facts, "ssmq_version", "of unknown version");
    const char *created = fact_or(facts, n_facts, "created_utc", c->last_started);
    ssmq_str title;
    ssmq_str source;
    ssmq_str history;
    ssmq_str_init(&title, 1024);
    ssmq_str_init(&source, 1024);
    ssmq_str_init(&history, 1024);
    ssmq_str_addf(&title, "ssmq sweep %.200s", run_id);
    ssmq_str_addf(&source, "ssmq %.200s", version);
    ssmq_str_addf(&history, "%.40s run begun; written from its journals by ssmq %.200s", created,
                  version);
    SSMQ_TRY_OR(ssmq_str_check(&title, "title", err), free_all);
    SSMQ_TRY_OR(ssmq_str_check(&source, "source", err), free_all);
    SSMQ_TRY_OR(ssmq_str_check(&history, "history", err), free_all);
    const char *const attributes[][2] = {
        {"Conventions", schema_convention},
        {"title", ssmq_str_get(&title)},
        {"source", ssmq_str_get(&source)},
        {"history", ssmq_str_get(&history)},
        {"created", created},
        {"run_id", run_id},
    };
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        SSMQ_TRY_OR(h5_set_text(file, file->id, attributes[i][0], attributes[i][1], err), free_all);
    }
free_all:
    ssmq_str_free(&title);
    ssmq_str_free(&source);
    ssmq_str_free(&history);
    return status;
}

static ssmq_status write_number_attributes(const h5_file *file, const counts *c,
                                           const ssmq_store_rows *rows, ssmq_err *err) {
    int8_t is_complete = rows->n_rows >= rows->n_planned;
    SSMQ_TRY(h5_set_numbers(file, file->id, "complete", H5T_STD_I8LE, &is_complete, 1, err));
    const struct {
        const char *name;
        int32_t value;
    } numbers[] = {
        {"schema_version", SSMQ_SCHEMA_VERSION},     {"n_trials_planned", (int32_t)rows->n_planned},
        {"n_trials_ok", (int32_t)c->n_ok},           {"n_trials_failed", (int32_t)c->n_failed},
        {"n_trials_skipped", (int32_t)c->n_skipped},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        SSMQ_TRY(h5_set_numbers(file, file->id, numbers[i].name, H5T_STD_I32LE, &numbers[i].value,
                                1, err));
    }
    return SSMQ_OK;
}

static ssmq_status write_facts(const h5_file *file, const ssmq_fact *facts, size_t n_facts,
                               ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    hid_t group = -1;
    hid_t type = -1;
    SSMQ_TRY(h5_group(&group, file, file->id, "provenance", err));
    type = h5_text_type();
    H5_TRY_OR(file, type, "write provenance", err, close_group);
    for (size_t i = 0; i < n_facts; i++) {
        hid_t dataset = -1;
        const h5_spec spec = {.name = facts[i].name, .type = type};
        if (!ssmq_name_is_safe(facts[i].name)) {
            status = SSMQ_FAIL(err, INTERNAL, "provenance: not a name: '%s'", facts[i].name);
            goto close_type;
        }
        SSMQ_TRY_OR(h5_create(&dataset, file, group, &spec, err), close_type);
        status = h5_write(file, dataset, type, &facts[i].text, err);
        (void)H5Dclose(dataset);
        if (status != SSMQ_OK) goto close_type;
    }
close_type:
    (void)H5Tclose(type);
close_group:
    (void)H5Gclose(group);
    return status;
}

/* One pass over the rows: getting one again may mean parsing it again. */
static ssmq_status write_rows(const h5_file *file, const ssmq_store_rows *rows, counts *c,
                              ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    table t = {.group = -1, .trials = -1, .type = -1};
    ragged r;
    drifts d = {.file = file, .group = -1};
    cube *all = NULL;
    SSMQ_TRY_OR(ragged_open(&r, file, err), close_ragged);
    SSMQ_TRY_OR(table_open(&t, file, rows->n_rows, err), close_table);
    SSMQ_TRY_OR(cube_open(&all, err), close_table);
    for (size_t i = 0; i < rows->n_rows; i++) {
        ssmq_record record;
        ssmq_samples samples = {0};
        SSMQ_TRY_OR(rows->get(rows->context, i, &record, &samples, err), close_cube);
        count(c, &record);
        status = table_add(&t, &record, err);
        if (status == SSMQ_OK) status = ragged_add(&r, i, &samples, err);
        if (status == SSMQ_OK) status = drifts_add(&d, i, &record, &samples, err);
        if (status == SSMQ_OK) status = cube_add(all, &record, err);
        ssmq_samples_free(&samples);
        if (status != SSMQ_OK) goto close_cube;
    }
    SSMQ_TRY_OR(table_finish(&t, err), close_cube);
    SSMQ_TRY_OR(ragged_finish(&r, err), close_cube);
    SSMQ_TRY_OR(cube_finish(all, file, err), close_cube);
close_cube:
    cube_close(all);
close_table:
    table_close(&t);
close_ragged:
    drifts_close(&d);
    ragged_close(&r);
    return status;
}

static ssmq_status write_content(const h5_file *file, const ssmq_store_rows *rows,
                                 const ssmq_fact *facts, size_t n_facts, ssmq_err *err) {
    counts c = {0};
    SSMQ_TRY(write_rows(file, rows, &c, err));
    SSMQ_TRY(write_facts(file, facts, n_facts, err));
    SSMQ_TRY(write_text_attributes(file, &c, facts, n_facts, err));
    return write_number_attributes(file, &c, rows, err);
}

/* The file is built in memory: packed, a row takes some hundred bytes. HDF5 1.10 cannot get rid of
 * a file that it failed to write; it tries again at exit and crashes there. So all that can fail
 * for want of space is done here, without it. */
static ssmq_status create_file(h5_file *file, const char *path, ssmq_err *err) {
    static const char what[] = "create the file";
    ssmq_status status = SSMQ_OK;
    *file = (h5_file){-1, path};
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5_TRY_OR(file, creation < 0 ? creation : access, what, err, close_plists);
    H5_TRY_OR(file, H5Pset_obj_track_times(creation, false), what, err, close_plists);
    /* Metadata with checksums, in the oldest format that has them. */
    H5_TRY_OR(file, H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110), what, err,
              close_plists);
    /* Objects that an error left open close with the file. */
    H5_TRY_OR(file, H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), what, err, close_plists);
    H5_TRY_OR(file, H5Pset_fapl_core(access, MEMORY_STEP_BYTES, false), what, err, close_plists);
    file->id = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    H5_TRY_OR(file, file->id, what, err, close_plists);
close_plists:
    if (access >= 0) (void)H5Pclose(access);
    if (creation >= 0) (void)H5Pclose(creation);
    return status;
}

/* The file's bytes where the memory driver holds them; valid until the file closes. Not by
 * H5Fget_file_image(), whose copy of a checksummed superblock 1.10 leaves with a wrong checksum. */
static ssmq_status find_image(const void **image, size_t *n_bytes, const h5_file *file,
                              ssmq_err *err) {
    static const char what[] = "finish the file";
    void **memory = NULL;
    H5_TRY(file, H5Fflush(file->id, H5F_SCOPE_LOCAL), what, err);
    ssize_t size = H5Fget_file_image(file->id, NULL, 0);
    H5_TRY(file, size, what, err);
    H5_TRY(file, H5Fget_vfd_handle(file->id, H5P_DEFAULT, (void **)&memory), what, err);
    *image = *memory;
    *n_bytes = (size_t)size;
    return SSMQ_OK;
}

ssmq_status ssmq_store_write(const char *path, const ssmq_store_rows *rows, const ssmq_fact *facts,
                             size_t n_facts, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    h5_file file;
    const void *image = NULL;
    size_t n_bytes = 0;
    SSMQ_CHECK(rows->n_rows <= INT32_MAX && rows->n_planned <= INT32_MAX, err);
    h5_quiet();
    SSMQ_TRY(create_file(&file, path, err));
    status = write_content(&file, rows, facts, n_facts, err);
    if (status == SSMQ_OK) status = find_image(&image, &n_bytes, &file, err);
    if (status == SSMQ_OK) status = ssmq_file_replace(path, image, n_bytes, err);
    (void)H5Fclose(file.id);
    (void)H5Eclear2(H5E_DEFAULT);
    return status;
}
