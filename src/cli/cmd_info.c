/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_info.c - ssmq info: this build and machine, a checkpoint's shape and modules, or the
 * record's fields. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/version.h"
#include "comm/comm.h"
#include "engine/device.h"
#include "engine/engine.h"
#include "model/model.h"
#include "model/modules.h"
#include "quant/spec.h"
#include "record/record.h"
#include "store/store.h"

static const double bytes_per_gb = 1e9;
enum { MAX_GPUS = 64, MAX_LADDER = 16 };

static const ssmq_option options[] = {
    {"model", 'm', "DIR", false, "checkpoint folder, or random:NAME"},
    {"fields", 0, NULL, false, "fields and series of a trial's record, with units and meaning"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static void print_line(const char *name, const char *text) {
    if (text[0] != '\0') (void)printf("%-18s %s\n", name, text);
}

static void print_number(const char *name, int64_t value, const char *meaning) {
    (void)printf("%-18s %-12" PRId64 " %s\n", name, value, meaning);
}

/* What an engine says of itself and its device. One that does not open says why. */
static void print_engine(const char *name) {
    const ssmq_engine_api *api = ssmq_engine_find(name);
    ssmq_engine_options engine_options = {0};
    ssmq_engine_facts facts;
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    if (api == NULL) return;
    (void)printf("\nengine %s\n", name);
    if (api->open(&engine, &engine_options, &err) != SSMQ_OK) {
        print_line("  unusable", err.text);
        return;
    }
    memset(&facts, 0, sizeof facts);
    api->describe(engine, &facts);
    api->close(engine);
    print_line("  processor", facts.cpu_name);
    (void)printf("%-18s %d\n", "  threads", (int)facts.n_threads);
    print_line("  gpu", facts.gpu_name);
    print_line("  driver", facts.driver);
    print_line("  cuda", facts.cuda);
    print_line("  cublaslt", facts.cublaslt);
    print_line("  products", facts.quant_backend);
    print_line("  timer", facts.timer);
    print_line("  memory", facts.memory_source);
}

static void print_gpus(void) {
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason = "";
    const int n = ssmq_engine_gpus(gpus, MAX_GPUS, &reason);
    if (n == 0) (void)printf("%-18s none: %s\n", "gpu", reason);
    for (int i = 0; i < n; i++) {
        (void)printf("%-18s %d: %s, compute capability %d.%d, %.1f GB, %s\n", "gpu", i,
                     gpus[i].name, gpus[i].major, gpus[i].minor,
                     (double)gpus[i].memory_bytes / bytes_per_gb,
                     gpus[i].has_bf16 ? "fp16 and bf16" : "fp16");
    }
}

static void print_build(void) {
    print_line("ssmq", ssmq_version());
    print_line("commit", ssmq_git_commit());
    print_line("compiler", ssmq_compiler());
    print_line("engines", ssmq_engine_names());
    print_gpus();
    (void)printf("%-18s %d\n", "cuda devices", ssmq_engine_n_devices());
    print_line("mpi", ssmq_comm_mpi_version());
    print_line("hdf5", ssmq_store_hdf5_version());
    print_engine("cpu");
    if (ssmq_engine_n_devices() > 0) print_engine("cuda");
}

static void print_fields(void) {
    (void)printf("%-10s  %-24s  %-7s  %-8s  %s\n", "kind", "name", "type", "unit", "meaning");
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        (void)printf("%-10s  %-24s  %-7s  %-8s  %s\n", ssmq_field_kind_name(field->kind),
                     field->name, ssmq_field_type_name(field->type), field->unit, field->doc);
    }
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        const char *name = ssmq_series_name(i);
        (void)printf("%-10s  %-24s  %-7s  %-8s  %s\n", "series", name, "numbers",
                     ssmq_series_unit(name), ssmq_series_doc(name));
    }
}

static void print_shape(const ssmq_shape *s) {
    print_number("d", s->d, "hidden size");
    (void)printf("%-18s %-12g %s\n", "E", s->expand, "expansion");
    print_number("di", s->di, "inner size, E * d");
    print_number("L", s->L, "layers");
    print_number("H", s->H, "heads");
    print_number("P", s->P, "head size");
    print_number("N", s->N, "state size");
    print_number("G", s->G, "groups of B and C");
    print_number("K", s->K, "conv kernel");
    print_number("V", s->V, "vocabulary, padded");
    print_number("R", s->R, "in_proj rows, 2*di + 2*G*N + H");
    print_number("conv_dim", s->conv_dim, "conv channels, di + 2*G*N");
    (void)printf("%-18s %-12g %s\n", "eps", (double)s->eps, "of every RMSNorm");
    (void)printf("%-18s [%g, %g]\n", "dt limits", (double)s->dt_min, (double)s->dt_max);
    (void)printf("%-18s %s\n", "biases",
                 s->has_bias        ? (s->has_conv_bias ? "projections, conv" : "projections")
                 : s->has_conv_bias ? "conv"
                                    : "none");
    print_line("lm_head", s->is_tied ? "tied to the embeddings" : "of its own");
    print_line("residual", s->residual_in_fp32 ? "fp32" : "compute type");
    print_number("eos id", s->eos_id, "end of text");
}

static void print_model(const ssmq_model *model) {
    print_line("model", model->name);
    print_line("sha256", model->sha256);
    print_line("stored type", ssmq_dtype_name(model->stored_dtype));
    print_number("parameters", model->n_params, "numbers stored, tied tensors once");
    print_number("stored bytes", model->stored_bytes, "");
    if (model->is_random) print_line("weights", "random; good for speed and memory only");
    (void)printf("\n");
    print_shape(&model->shape);
}

/* The ladder, and of each point the first one whose weights take as many bytes. */
typedef struct ladder {
    int n;
    ssmq_precision precisions[MAX_LADDER];
    int like[MAX_LADDER];
} ladder;

static ssmq_status read_ladder(ladder *out, ssmq_err *err) {
    enum { ROWS = 1, COLUMNS = 65536 }; /* so many that groups and channels differ in scales */
    out->n = 0;
    for (int i = 0; ssmq_precision_ladder(i) != NULL; i++) {
        SSMQ_CHECK(i < MAX_LADDER, err);
        ssmq_precision *p = &out->precisions[i];
        SSMQ_TRY(ssmq_precision_parse(p, ssmq_precision_ladder(i), err));
        const int64_t bytes = ssmq_precision_weight_bytes(p, ROWS, COLUMNS);
        out->like[i] = 0;
        while (ssmq_precision_weight_bytes(&out->precisions[out->like[i]], ROWS, COLUMNS) != bytes)
            out->like[i]++;
        out->n++;
    }
    return SSMQ_OK;
}

/* "...; bf16 as fp16; w4a4, w4a16 as w4a8" */
static void print_aliases(const ladder *l) {
    (void)printf("\nbytes of one layer's weights with their scales");
    for (int column = 0; column < l->n; column++) {
        bool has_alias = false;
        for (int i = column + 1; i < l->n; i++) {
            if (l->like[i] != column) continue;
            (void)printf("%s %s", has_alias ? "," : ";", l->precisions[i].name);
            has_alias = true;
        }
        if (has_alias) (void)printf(" as %s", l->precisions[column].name);
    }
    (void)printf("\n");
}

static void print_group(const ssmq_module_group *group, const ladder *l) {
    const ssmq_module_info *info = &group->info;
    char layers[24] = "-";
    if (group->n_layers == 1) {
        (void)snprintf(layers, sizeof layers, "%d", info->layer);
    } else if (group->n_layers > 1) {
        (void)snprintf(layers, sizeof layers, "%d-%d", info->layer,
                       info->layer + group->n_layers - 1);
    }
    (void)printf("%-6s  %-10s  %6" PRId64 "  %7" PRId64, layers, info->name, info->rows,
                 info->columns);
    for (int i = 0; i < l->n; i++) {
        if (l->like[i] != i) continue;
        if (info->is_product || !ssmq_precision_is_quantized(&l->precisions[i])) {
            (void)printf("  %9" PRId64,
                         ssmq_precision_weight_bytes(&l->precisions[i], info->rows, info->columns));
        } else {
            (void)printf("  %9s", "-");
        }
    }
    (void)printf("  %s%s%s\n", info->included ? "included" : "excluded", info->included ? "" : ": ",
                 info->reason);
}

/* Modules, equal ones of all layers in a line, and why some are left out. */
static void print_modules(const ssmq_shape *shape, const ladder *l) {
    int n_included = 0;
    int64_t n_weights = 0;
    print_aliases(l);
    (void)printf("%-6s  %-10s  %6s  %7s", "layers", "module", "rows", "columns");
    for (int i = 0; i < l->n; i++) {
        if (l->like[i] == i) (void)printf("  %9s", l->precisions[i].name);
    }
    (void)printf("  scope of \"all\"\n");
    for (int i = 0; i < SSMQ_N_MODULES; i++) {
        const ssmq_module_group group = ssmq_modules_group(shape, i);
        print_group(&group, l);
        if (!group.info.included) continue;
        n_included += group.n_layers;
        n_weights += group.n_layers * group.info.rows * group.info.columns;
    }
    (void)printf("\n%d modules, %d in the scope of \"all\" with %" PRId64 " weights\n",
                 ssmq_modules_count(shape), n_included, n_weights);
}

/* Bytes along the ladder of what is in scope, against two bytes a weight, and of all products. */
static ssmq_status print_sizes(const ssmq_shape *shape, const ladder *l, ssmq_err *err) {
    (void)printf("\n%-9s  %14s  %9s  %14s\n", "precision", "bytes in scope", "of 16-bit",
                 "all products");
    for (int i = 0; i < l->n; i++) {
        const ssmq_precision *p = &l->precisions[i];
        int64_t bytes = 0, n_weights = 0;
        ssmq_spec spec;
        SSMQ_TRY(ssmq_spec_init(&spec, p, "all", shape, err));
        for (int m = 0; m < SSMQ_N_MODULES; m++) {
            const ssmq_module_group group = ssmq_modules_group(shape, m);
            const ssmq_module_info *info = &group.info;
            if (!info->included) continue;
            bytes += group.n_layers * ssmq_precision_weight_bytes(p, info->rows, info->columns);
            n_weights += group.n_layers * info->rows * info->columns;
        }
        (void)printf("%-9s  %14" PRId64 "  %9.3f  %14" PRId64 "\n", p->name, bytes,
                     (double)bytes / (2.0 * (double)n_weights),
                     ssmq_spec_weight_bytes(&spec, shape));
    }
    return SSMQ_OK;
}

ssmq_status ssmq_command_info(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    ssmq_model *model = NULL;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq info [--model DIR] [--fields]\n\n"
                     "This build, its engines, devices and libraries; with --model the shape of a "
                     "checkpoint and what\nof it can be quantized; with --fields what a record "
                     "holds.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_no_positional(&args, err));
    const char *path = ssmq_args_get(&args, "model");
    bool wants_fields = ssmq_args_get(&args, "fields") != NULL;
    if (path != NULL && wants_fields) {
        return SSMQ_FAIL(err, CONFIG, "--model and --fields: one at a time");
    }
    if (wants_fields) {
        print_fields();
        return SSMQ_OK;
    }
    if (path == NULL) {
        print_build();
        return SSMQ_OK;
    }
    ladder l;
    SSMQ_TRY(read_ladder(&l, err));
    SSMQ_TRY(ssmq_model_open(&model, path, err));
    print_model(model);
    print_modules(&model->shape, &l);
    ssmq_status status = print_sizes(&model->shape, &l, err);
    ssmq_model_close(model);
    return status;
}
