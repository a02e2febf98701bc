// mpirun 1 generate/answers
// mpirun 1 generate/likelihood
// mpirun 1 generate/sampling
/* Answers of a small LLaVA and a small decoder: greedy and by beams the tokens of transformers, likelihoods its numbers (golden/make_generate.py), each
 * request alone and in a batch with others about the same and other pictures. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "eval/generate.h"

static bif_comm *comm;
static json_t *expected;
static char *golden;

static void start(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK);
    golden = bif_format("%s/golden", getenv("BIFOCAL_TESTS"));
    char *path = bif_format("%s/generate/expected.json", golden);
    cr_assert_eq(bif_json_load_file(path, 1 << 20, &expected), BIF_OK, "%s", bif_error_message());
    free(path);
}

static void stop(void)
{
    json_decref(expected);
    free(golden);
    bif_comm_finish(comm);
}

TestSuite(generate, .init = start, .fini = stop);

static bif_session open_session(const char *folder)
{
    bif_session s = {0};
    char *path = bif_format("%s/%s", golden, folder);
    const bif_session_options options = {.device = "cpu", .threads = 1, .template_name = "vicuna_v1", .system = "", .image_fit = "pad"};
    cr_assert_eq(bif_session_open(path, 1u << BIF_MODEL_LLAVA | 1u << BIF_MODEL_DECODER, &options, comm, &s), BIF_OK, "%s", bif_error_message());
    free(path);
    return s;
}

enum { MOST = 8, SIDE = 16, BYTES = 3 * SIDE * SIDE };
typedef struct {
    const json_t *row;
    bif_encoded prompt;
    uint8_t pixels[2 * BYTES];
    int64_t images;
} asked;

static asked ask(bif_session *s, const json_t *row)
{
    asked a = {.row = row, .images = (int64_t)json_array_size(json_object_get(row, "images"))};
    char *root = bif_format("%s/probe/images", golden);
    const int fd = open(root, O_PATH | O_DIRECTORY);
    for (int64_t i = 0; i < a.images; i++) {
        const char *name = json_string_value(json_array_get(json_object_get(row, "images"), (size_t)i));
        cr_assert_eq(bif_session_image(s, fd, root, name, a.pixels + i * BYTES), BIF_OK, "%s", bif_error_message());
    }
    close(fd);
    free(root);
    cr_assert_eq(bif_chat_prompt(&s->chat, json_string_value(json_object_get(row, "prompt")), a.images, &a.prompt), BIF_OK);
    return a;
}

/* The request of a, which is the i-th of a batch whose pictures are known to be the same or not. */
static bif_request request_of(const asked *all, int64_t i)
{
    bif_request r = {.prompt = &all[i].prompt, .pixels = all[i].pixels, .images = all[i].images};
    for (int64_t k = 0; k < i && all[i].images > 0; k++) {
        if (json_equal(json_object_get(all[i].row, "images"), json_object_get(all[k].row, "images"))) {
            r.same = k + 1;
            r.pixels = NULL; /* nobody looks at them again */
        }
    }
    return r;
}

static bool belongs(const json_t *row, const char *folder)
{
    return strcmp(json_string_value(json_object_get(row, "folder")), folder) == 0;
}

static int64_t number(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static void compare(const json_t *row, const bif_ids *ids, const char *how)
{
    const json_t *want = json_object_get(row, "ids");
    bool same = ids->count == json_array_size(want);
    for (size_t t = 0; same && t < ids->count; t++) {
        same = ids->ids[t] == json_integer_value(json_array_get(want, t));
    }
    if (!same) {
        char *text = json_dumps(row, JSON_COMPACT);
        fprintf(stderr, "%s: %zu tokens:", how, ids->count);
        for (size_t t = 0; t < ids->count; t++) {
            fprintf(stderr, " %d", (int)ids->ids[t]);
        }
        fprintf(stderr, "\n");
        cr_expect(false, "%s of %s", how, text);
        free(text);
    }
}

static int compare_folder(const char *folder)
{
    bif_session s = open_session(folder);
    const json_t *cases = json_object_get(expected, "cases");
    int checked = 0;
    for (size_t at = 0; at < json_array_size(cases); at++) {
        const json_t *row = json_array_get(cases, at);
        if (!belongs(row, folder)) {
            continue;
        }
        /* All cases of these settings from here on that fit: the first of them alone, then all together. */
        asked all[MOST];
        bif_request requests[MOST];
        bif_ids answers[MOST] = {0};
        int64_t n = 0;
        const int64_t eos = s.chat.eos;
        s.chat.eos = (int32_t)number(row, "stop");
        for (size_t k = at; k < json_array_size(cases) && n < MOST; k++) {
            const json_t *other = json_array_get(cases, k);
            if (belongs(other, folder) && number(other, "stop") == s.chat.eos && number(other, "beams") == number(row, "beams") &&
                number(other, "max_new") == number(row, "max_new") &&
                json_equal(json_object_get(other, "length_penalty"), json_object_get(row, "length_penalty"))) {
                all[n] = ask(&s, other);
                n++;
            }
        }
        for (int64_t i = 0; i < n; i++) {
            requests[i] = request_of(all, i);
        }
        const bif_generator_limits limits = {.batch = MOST, .max_prompt = 64, .max_images = 2, .decoding = {.max_new = number(row, "max_new"),
                                             .beams = number(row, "beams"), .length_penalty = json_real_value(json_object_get(row, "length_penalty"))}};
        bif_generator *g = NULL;
        cr_assert_eq(bif_generator_new(&s, &limits, &g), BIF_OK, "%s", bif_error_message());
        cr_assert_eq(bif_generate(g, requests, 1, answers), BIF_OK, "%s", bif_error_message());
        compare(row, &answers[0], "alone");
        for (int again = 0; again < 2; again++) {
            cr_assert_eq(bif_generate(g, requests, n, answers), BIF_OK, "%s", bif_error_message());
            for (int64_t i = 0; i < n; i++) {
                compare(all[i].row, &answers[i], "in a batch");
            }
        }
        bif_generator_free(g);
        for (int64_t i = 0; i < n; i++) {
            bif_encoded_free(&all[i].prompt);
            bif_ids_free(&answers[i]);
        }
        s.chat.eos = (int32_t)eos;
        checked++;
    }
    bif_session_close(&s);
    return checked;
}

Test(generate, answers)
{
    cr_assert_eq(compare_folder("probe") + compare_folder("probe_lm"), (int)json_array_size(json_object_get(expected, "cases")));
}

static void rank_folder(const char *folder, int *checked)
{
    bif_session s = open_session(folder);
    asked all[MOST];
    bif_request requests[MOST];
    bif_ids options[MOST][5] = {0};
    const json_t *row;
    size_t at;
    int64_t n = 0;
    json_array_foreach(json_object_get(expected, "ranks"), at, row) {
        if (!belongs(row, folder)) {
            continue;
        }
        all[n] = ask(&s, row);
        for (size_t k = 0; k < 5; k++) {
            char *text = bif_format(" %s", json_string_value(json_array_get(json_object_get(row, "options"), k)));
            cr_assert_eq(bif_tokenizer_encode(s.tokenizer, text, strlen(text), false, &options[n][k]), BIF_OK);
            bif_ids_push(&options[n][k], bif_chat_stop(&s.chat));
            free(text);
        }
        requests[n] = request_of(all, n);
        requests[n].options = options[n];
        requests[n].option_count = n == 1 ? 3 : 5;
        n++;
    }
    const bif_generator_limits limits = {.batch = MOST, .max_prompt = 64, .max_images = 2, .decoding = {.max_new = 1}, .max_options = 5, .max_option = 16};
    bif_generator *g = NULL;
    double scores[MOST * 5];
    cr_assert_eq(bif_generator_new(&s, &limits, &g), BIF_OK, "%s", bif_error_message());
    for (int64_t from = 0; from < n; from++) { /* together, and the later ones alone */
        const int64_t count = from == 0 ? n : 1;
        requests[from] = request_of(all + from, 0);
        requests[from].options = options[from];
        requests[from].option_count = from == 1 ? 3 : 5;
        cr_assert_eq(bif_rank(g, requests + from, count, scores), BIF_OK, "%s", bif_error_message());
        for (int64_t i = 0; i < count; i++) {
            for (int64_t k = 0; k < requests[from + i].option_count; k++) {
                const double want = json_real_value(json_array_get(json_object_get(all[from + i].row, "scores"), (size_t)k));
                cr_expect(fabs(scores[i * 5 + k] - want) < 2e-5 * fabs(want), "%s, request %lld, option %lld: %.9g, not %.9g", folder, (long long)(from + i),
                          (long long)k, scores[i * 5 + k], want);
                ++*checked;
            }
        }
    }
    bif_generator_free(g);
    for (int64_t i = 0; i < n; i++) {
        bif_encoded_free(&all[i].prompt);
        for (int k = 0; k < 5; k++) {
            bif_ids_free(&options[i][k]);
        }
    }
    bif_session_close(&s);
}

Test(generate, likelihood)
{
    int checked = 0;
    rank_folder("probe", &checked);
    rank_folder("probe_lm", &checked);
    cr_assert_eq(checked, 72);
}

/* By number of the question and place: the same in any batch; another seed or number says other things, and so does another place. */
Test(generate, sampling)
{
    bif_session s = open_session("probe");
    asked all[4];
    bif_request requests[4];
    bif_ids together[4] = {0}, alone = {0}, other = {0};
    bif_generator *g = NULL, *seeded = NULL;
    bif_generator_limits limits = {.batch = 4, .max_prompt = 64, .max_images = 2, .decoding = {.max_new = 20, .temperature = 3.0, .top_p = 0.95, .seed = 5}};
    cr_assert_eq(bif_generator_new(&s, &limits, &g), BIF_OK);
    limits.decoding.seed = 6;
    cr_assert_eq(bif_generator_new(&s, &limits, &seeded), BIF_OK);
    for (int64_t i = 0; i < 4; i++) {
        all[i] = ask(&s, json_array_get(json_object_get(expected, "ranks"), 0));
        requests[i] = request_of(all, i);
        requests[i].number = (uint64_t)(i < 3 ? 100 + i : 100);
    }
    cr_assert_eq(bif_generate(g, requests, 4, together), BIF_OK);
    cr_assert(together[0].count > 2 && together[0].count == together[3].count);
    cr_assert_arr_eq(together[0].ids, together[3].ids, together[0].count * sizeof(int32_t));
    cr_assert(together[0].count != together[1].count || memcmp(together[0].ids, together[1].ids, together[0].count * sizeof(int32_t)) != 0);
    bif_request last = request_of(all + 2, 0);
    last.number = 102;
    cr_assert_eq(bif_generate(g, &last, 1, &alone), BIF_OK);
    cr_assert_eq(alone.count, together[2].count);
    cr_assert_arr_eq(alone.ids, together[2].ids, alone.count * sizeof(int32_t));
    cr_assert_eq(bif_generate(seeded, &last, 1, &other), BIF_OK);
    cr_assert(other.count != alone.count || memcmp(other.ids, alone.ids, alone.count * sizeof(int32_t)) != 0);
    bif_generator *refused = NULL;
    limits.decoding.beams = 2;
    cr_assert_eq(bif_generator_new(&s, &limits, &refused), BIF_ERR_USAGE);
    cr_assert_null(refused);
    bif_generator_free(g);
    bif_generator_free(seeded);
    for (int64_t i = 0; i < 4; i++) {
        bif_encoded_free(&all[i].prompt);
        bif_ids_free(&together[i]);
    }
    bif_ids_free(&alone);
    bif_ids_free(&other);
    bif_session_close(&s);
}
