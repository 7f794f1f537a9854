/* SPDX-License-Identifier: Apache-2.0 */
/* model/config_json: the three naming families with their defaults, and the message of every model
 * that ssmq does not compute. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/config_json.h"
#include "model/model.h"
#include "support/write_checkpoint.h"

static ssmq_shape parse(const char *text) {
    ssmq_err err = {0};
    ssmq_shape shape;
    ssmq_status status = ssmq_config_json_parse(&shape, text, strlen(text), "c", &err);
    if (status != SSMQ_OK) print_error("%s: %s\n", text, err.text);
    assert_int_equal(status, SSMQ_OK);
    return shape;
}

static void reject(const char *text, const char *message) {
    ssmq_err err = {0};
    ssmq_shape shape;
    assert_int_equal(ssmq_config_json_parse(&shape, text, strlen(text), "c", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, message);
}

/* Codestral 7B: Transformers' defaults. */
static void defaults_of_transformers(void **state) {
    (void)state;
    ssmq_shape s = parse("{\"model_type\":\"mamba2\"}");
    assert_true(s.d == 4096 && s.L == 64 && s.H == 128 && s.P == 64 && s.N == 128 && s.G == 8);
    assert_true(s.K == 4 && s.V == 32768 && s.di == 8192 && s.conv_dim == 10240 && s.R == 18560);
    assert_true(s.expand == 2.0 && s.eps == 1e-5f && s.dt_min == 0.0f && isinf(s.dt_max));
    assert_true(!s.has_bias && s.has_conv_bias && !s.is_tied && s.residual_in_fp32);
    assert_true(s.bos_id == 0 && s.eos_id == 2 && s.pad_id == 1);
}

static void every_key_of_transformers(void **state) {
    (void)state;
    ssmq_shape s = parse(
        "{\"model_type\":\"mamba2\",\"hidden_size\":10,\"num_hidden_layers\":3,\"num_heads\":6,"
        "\"head_dim\":5,\"state_size\":7,\"n_groups\":3,\"expand\":3.05,\"conv_kernel\":3,"
        "\"vocab_size\":11,\"layer_norm_epsilon\":1e-6,\"use_bias\":true,\"use_conv_bias\":false,"
        "\"hidden_act\":\"swish\",\"residual_in_fp32\":false,\"time_step_limit\":[0.5,"
        "{\"__float__\":\"Infinity\"}],\"tie_word_embeddings\":true,\"rms_norm\":true,"
        "\"pad_token_id\":null,\"bos_token_id\":4,\"eos_token_id\":[5,6],\"norm_before_gate\":true,"
        "\"anything\":{\"nested\":[1,{}]}}");
    /* 3.05 * 10 = 30.5 is cut to 30. */
    assert_true(s.d == 10 && s.L == 3 && s.H == 6 && s.P == 5 && s.N == 7 && s.G == 3 && s.K == 3);
    assert_true(s.V == 11 && s.di == 30 && s.conv_dim == 72 && s.R == 108 && s.expand == 3.05);
    assert_true(s.eps == 1e-6f && s.has_bias && !s.has_conv_bias && !s.residual_in_fp32);
    assert_true(s.dt_min == 0.5f && isinf(s.dt_max) && s.is_tied);
    assert_true(s.pad_id == -1 && s.bos_id == 4 && s.eos_id == 5);
    s = parse("{\"model_type\":\"mamba2\",\"time_step_limit\":[-Infinity,Infinity]}");
    assert_true(isinf(s.dt_min) && s.dt_min < 0 && isinf(s.dt_max));
    s = parse("{\"model_type\":\"mamba2\",\"time_step_limit\":[1e-3,1e300]}");
    assert_true(s.dt_min == 1e-3f && isinf(s.dt_max));
    s = parse("{\"model_type\":\"mamba2\",\"hidden_size\":768,\"expand\":1.5,"
              "\"num_heads\":18,\"n_groups\":1}");
    assert_true(s.di == 1152 && s.H == 18 && s.G == 1);
}

static void published_state_spaces(void **state) {
    (void)state;
    ssmq_shape s = parse(
        "{\"d_model\":768,\"d_intermediate\":0,\"n_layer\":24,\"vocab_size\":50277,\"ssm_cfg\":"
        "{\"layer\":\"Mamba2\"},\"attn_layer_idx\":[],\"attn_cfg\":{},\"rms_norm\":true,"
        "\"residual_in_fp32\":true,\"fused_add_norm\":true,\"pad_vocab_size_multiple\":16,"
        "\"tie_embeddings\":true}");
    assert_true(s.d == 768 && s.L == 24 && s.V == 50288 && s.H == 24 && s.G == 1 && s.N == 128);
    assert_true(s.R == 3352 && s.conv_dim == 1792 && s.is_tied && s.residual_in_fp32);
    assert_true(s.bos_id == 0 && s.eos_id == 0 && s.pad_id == 0);
    s = parse("{\"d_model\":2560,\"ssm_cfg\":{\"layer\":\"Mamba2\"}}");
    assert_true(s.L == 64 && s.V == 50280 && s.H == 80 && s.R == 10576 && s.is_tied);
    s = parse("{\"d_model\":16,\"ssm_cfg\":{\"layer\":\"Mamba2\",\"d_state\":9,\"d_conv\":2,"
              "\"expand\":3,\"headdim\":8,\"ngroups\":2,\"d_ssm\":48,\"dt_limit\":[0.1,2],"
              "\"bias\":true,\"conv_bias\":false,\"norm_before_gate\":true,\"chunk_size\":64}}");
    assert_true(s.N == 9 && s.K == 2 && s.di == 48 && s.P == 8 && s.H == 6 && s.G == 2);
    assert_true(s.has_bias && !s.has_conv_bias && s.dt_min == 0.1f && s.dt_max == 2.0f);
}

static void published_mistral(void **state) {
    (void)state;
    ssmq_shape s = parse("{\"dim\":4096,\"n_layers\":64,\"vocab_size\":32768,\"n_groups\":8,"
                         "\"rms_norm\":true,\"residual_in_fp32\":true,\"fused_add_norm\":true,"
                         "\"pad_vocab_size_multiple\":1,\"tie_embeddings\":false,"
                         "\"model_type\":\"mamba\"}");
    assert_true(s.d == 4096 && s.L == 64 && s.V == 32768 && s.G == 8 && s.H == 128 && !s.is_tied);
    assert_true(s.R == 18560 && s.has_conv_bias && !s.has_bias);
    reject("{\"dim\":4096,\"n_layers\":64}", "c: vocab_size is missing");
}

#define HF(more)  "{\"model_type\":\"mamba2\"," more "}"
#define SS(more)  "{\"d_model\":64,\"ssm_cfg\":{\"layer\":\"Mamba2\"}," more "}"
#define SSM(more) "{\"d_model\":64,\"ssm_cfg\":{\"layer\":\"Mamba2\"," more "}}"

static const char *const faults[][2] = {
    {"{}", "c: no model_type, d_model or dim: not the configuration of a Mamba2 model"},
    {"[]", "c: no model_type, d_model or dim: not the configuration of a Mamba2 model"},
    {"{\"model_type\":\"mamba\"}",
     "c: model_type: \"mamba\"; a Mamba1 model; only mamba2 is supported"},
    {"{\"model_type\":\"zamba2\"}", "c: model_type: \"zamba2\"; only mamba2 is supported"},
    {"{\"model_type\":3}", "c: model_type: 3; only mamba2 is supported"},
    {HF("\"hidden_size\":0"), "c: hidden_size: 0; an integer from 1 to 65536 is needed"},
    {HF("\"hidden_size\":65537"), "c: hidden_size: 65537; an integer from 1 to 65536 is needed"},
    {HF("\"hidden_size\":1.5"), "c: hidden_size: 1.5; an integer from 1 to 65536 is needed"},
    {HF("\"hidden_size\":null"), "c: hidden_size: null; an integer from 1 to 65536 is needed"},
    {HF("\"hidden_size\":\"a\\nb\""),
     "c: hidden_size: \"a\\u000ab\"; an integer from 1 to 65536 is needed"},
    {HF("\"num_hidden_layers\":257"),
     "c: num_hidden_layers: 257; an integer from 1 to 256 is needed"},
    {HF("\"num_heads\":-1"), "c: num_heads: -1; an integer from 1 to 262144 is needed"},
    {HF("\"vocab_size\":16777217"),
     "c: vocab_size: 16777217; an integer from 1 to 16777216 is needed"},
    {HF("\"state_size\":9223372036854775807"),
     "c: state_size: 9.22337203685e+18; an integer from 1 to 65536 is needed"},
    {HF("\"conv_kernel\":5"), "c: conv_kernel: 5; an integer from 2 to 4 is needed"},
    {HF("\"conv_kernel\":1"), "c: conv_kernel: 1; an integer from 2 to 4 is needed"},
    {HF("\"num_heads\":127"), "c: num_heads 127 * head_dim 64 is not the inner size 8192 (expand 2 "
                              "* hidden_size 4096)"},
    {HF("\"n_groups\":3"), "c: 128 heads do not divide into 3 groups"},
    {HF("\"expand\":0"), "c: expand: 0; a positive number is needed"},
    {HF("\"expand\":NaN"), "c: expand: nan; a positive number is needed"},
    {HF("\"expand\":1000"), "c: expand * hidden size: 4.096e+06; 1 to 262144 is allowed"},
    {HF("\"layer_norm_epsilon\":0"),
     "c: layer_norm_epsilon: 0; a number from 1e-30 to below 1 is needed"},
    {HF("\"hidden_act\":\"relu\""), "c: hidden_act: \"relu\"; only silu (swish) is supported"},
    {HF("\"rms_norm\":false"), "c: rms_norm: false; only true is supported"},
    {HF("\"use_bias\":1"), "c: use_bias: 1; true or false is needed"},
    {HF("\"time_step_limit\":[1,0.5]"),
     "c: time_step_limit: [1, 0.5]; low <= high with a positive high is needed"},
    {HF("\"time_step_limit\":[NaN,1]"),
     "c: time_step_limit: [nan, 1]; low <= high with a positive high is needed"},
    {HF("\"time_step_limit\":[Infinity,Infinity]"),
     "c: time_step_limit: [inf, inf]; low <= high with a positive high is needed"},
    {HF("\"time_step_limit\":[-2,-1]"),
     "c: time_step_limit: [-2, -1]; low <= high with a positive high is needed"},
    {HF("\"time_step_limit\":[0,{\"__float__\":\"Inf\"}]"),
     "c: time_step_limit: an array; a list of two numbers is needed"},
    {HF("\"time_step_limit\":[0]"),
     "c: time_step_limit: an array; a list of two numbers is needed"},
    {HF("\"eos_token_id\":\"x\""), "c: eos_token_id: \"x\"; a token id or null is needed"},
    {"{\"model_type\":\"mamba2\",\"model_type\":\"mamba2\"}",
     "c: an object has the same key twice"},
    {"{\"d_model\":64}", "c: ssm_cfg.layer is not \"Mamba2\": a Mamba1 model"},
    {"{\"d_model\":64,\"ssm_cfg\":{\"layer\":\"Mamba1\"}}",
     "c: ssm_cfg.layer is not \"Mamba2\": a Mamba1 model"},
    {SS("\"attn_layer_idx\":[9,18]"),
     "c: attn_layer_idx is not empty: hybrids with attention are not supported"},
    {SS("\"d_intermediate\":128"), "c: d_intermediate: 128; only 0, no MLP, is supported"},
    {SS("\"rms_norm\":false"), "c: rms_norm: false; only true is supported"},
    {SS("\"pad_vocab_size_multiple\":0"),
     "c: pad_vocab_size_multiple: 0; an integer from 1 to 16777216 is needed"},
    {SS("\"vocab_size\":16777216,\"pad_vocab_size_multiple\":16777215"),
     "c: vocab_size: 33554430 after padding; at most 16777216 is allowed"},
    {SSM("\"D_has_hdim\":true"), "c: ssm_cfg.D_has_hdim: true; only false is supported"},
    {SSM("\"rmsnorm\":false"), "c: ssm_cfg.rmsnorm: false; only true is supported"},
    {SSM("\"activation\":\"gelu\""),
     "c: ssm_cfg.activation: \"gelu\"; only silu (swish) is supported"},
    {SSM("\"d_ssm\":64"), "c: ssm_cfg.d_ssm: 64; only the inner size (null) is supported"},
    {SSM("\"headdim\":48"), "c: inner size 128 is no multiple of head size 48"},
    {SSM("\"ngroups\":4"), "c: 2 heads do not divide into 4 groups"},
    {SSM("\"d_conv\":8"), "c: ssm_cfg.d_conv: 8; an integer from 2 to 4 is needed"},
};

static void rejects_every_fault(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        reject(faults[i][0], faults[i][1]);
    }
}

static void reads_folders(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_shape s;
    assert_int_equal(ssmq_shape_read(&s, "configs/demo", &err), SSMQ_OK);
    assert_true(s.d == 256 && s.L == 8 && s.H == 8 && s.P == 64 && s.N == 128 && s.V == 4096);
    assert_true(s.is_tied && s.bos_id == 0 && s.eos_id == 0 && s.pad_id == 0);
    assert_int_equal(ssmq_shape_read(&s, "configs/none", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "configs/none: no such folder");
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_shape_read(&s, "LICENSE", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "LICENSE: not a folder; a model is a folder with config.json");
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_shape_read(&s, "tests", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "tests: neither config.json nor params.json");
}

/* Fractional expansions whose product with d must be cut to exactly H * P. */
static void fractional_expand_round_trips(void **state) {
    (void)state;
    char folder[SSMQ_PATH_BYTES];
    make_temp_folder(folder);
    for (int64_t d = 3; d < 40; d += 3) {
        for (int64_t H = 1; H < 8; H++) {
            ssmq_err err = {0};
            ssmq_shape s;
            struct checkpoint_options o = {.d = d, .H = H, .P = 5, .L = 1, .V = 2};
            if (H % 2 == 0) o.naming = CHECKPOINT_STATE_SPACES;
            write_checkpoint(folder, &o);
            assert_int_equal(ssmq_shape_read(&s, folder, &err), SSMQ_OK);
            assert_true(s.di == 5 * H && s.H == H && s.d == d && s.V == 2);
        }
    }
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_of_transformers),
        cmocka_unit_test(every_key_of_transformers),
        cmocka_unit_test(published_state_spaces),
        cmocka_unit_test(published_mistral),
        cmocka_unit_test(rejects_every_fault),
        cmocka_unit_test(reads_folders),
        cmocka_unit_test(fractional_expand_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
