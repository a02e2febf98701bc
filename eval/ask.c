#include "eval/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "eval/text.h"

typedef struct {
    const bif_seen *picture;
    int64_t question, copy_of; /* copy_of: 1 + an earlier one of the batch that is the same; 0 = none is */
    uint8_t *pixels;
    char *error;
    bif_status status;
} job;

struct bif_asker {
    bif_session *session;
    const bif_questions *questions;
    const bif_ask_options *settings;
    int root_fd;
    int64_t bytes, most; /* of a picture; pictures of a question */
    int32_t *lengths;
    int64_t *order;
    char digest[33];
    int64_t cut;
    int64_t *first; /* [questions + 1] into shown */
    const bif_seen **shown; /* what is really looked at */
    bif_generator *generator;
    bif_encoded *prompts; /* [batch] */
    bif_request *requests;
    bif_ids *answers;
    bif_ids **options; /* [batch][most_options], when ranking */
    double *scores; /* [batch, most_options] */
    int64_t most_options, longest_option;
    uint8_t *pixels; /* [batch, most, S, S, 3] */
    job *jobs; /* [batch * most] */
};

const char *bif_ablate_name(bif_ablate ablate)
{
    static const char *const names[] = {"none", "blank", "shuffle"};
    return names[ablate];
}

static bif_status at_question(bif_status st, const bif_question *q)
{
    return bif_fail_context(st, "%s:%lld", q->file, (long long)q->line);
}

/* ---- which pictures ---- */

static int compare_pictures(const void *a, const void *b)
{
    const bif_seen *x = *(const bif_seen *const *)a, *y = *(const bif_seen *const *)b;
    if (x->base64.size != y->base64.size) {
        return x->base64.size < y->base64.size ? -1 : 1;
    }
    return x->base64.size > 0 ? memcmp(x->base64.text, y->base64.text, x->base64.size) : strcmp(x->name, y->name);
}

/* shown = another picture: the distinct ones, in a keyed order, each followed by the next. */
static void shuffle(bif_asker *a, int64_t count)
{
    const bif_seen **distinct = bif_calloc((size_t)count, sizeof *distinct);
    int64_t n = 0;
    memcpy(distinct, a->shown, (size_t)count * sizeof *distinct);
    qsort(distinct, (size_t)count, sizeof *distinct, compare_pictures);
    for (int64_t i = 0; i < count; i++) {
        if (n == 0 || compare_pictures(&distinct[n - 1], &distinct[i]) != 0) {
            distinct[n++] = distinct[i];
        }
    }
    int64_t *place = bif_calloc((size_t)n, sizeof *place), *order = bif_calloc((size_t)n, sizeof *order);
    for (int64_t i = 0; i < n; i++) {
        place[i] = (int64_t)bif_permute(0, 0, (uint64_t)n, (uint64_t)i);
        order[place[i]] = i;
    }
    for (int64_t i = 0; i < count; i++) {
        const bif_seen **found = bsearch(&a->shown[i], distinct, (size_t)n, sizeof *distinct, compare_pictures);
        a->shown[i] = distinct[order[(place[found - distinct] + 1) % n]];
    }
    free(place);
    free(order);
    free(distinct);
}

static void place_pictures(bif_asker *a)
{
    const bif_questions *set = a->questions;
    a->first = bif_calloc((size_t)set->count + 1, sizeof *a->first);
    for (int64_t i = 0; i < set->count; i++) {
        a->first[i + 1] = a->first[i] + set->items[i].images;
        a->most = set->items[i].images > a->most ? set->items[i].images : a->most;
    }
    const int64_t count = a->first[set->count];
    a->shown = bif_calloc((size_t)count, sizeof *a->shown);
    for (int64_t i = 0; i < set->count; i++) {
        for (int64_t k = 0; k < set->items[i].images; k++) {
            a->shown[a->first[i] + k] = &set->items[i].pictures[k];
        }
    }
    if (a->settings->ablate == BIF_ABLATE_SHUFFLE && count > 0) {
        shuffle(a, count);
    }
}

static int by_pictures(const void *x, const void *y, void *context)
{
    const bif_asker *a = context;
    const int64_t i = *(const int64_t *)x, k = *(const int64_t *)y;
    const int64_t n = a->questions->items[i].images, m = a->questions->items[k].images;
    int order = n != m ? (n < m ? -1 : 1) : 0;
    for (int64_t p = 0; order == 0 && p < n; p++) {
        order = compare_pictures(&a->shown[a->first[i] + p], &a->shown[a->first[k] + p]);
    }
    return order;
}

static int by_pictures_and_place(const void *x, const void *y, void *context)
{
    const int order = by_pictures(x, y, context);
    const int64_t i = *(const int64_t *)x, k = *(const int64_t *)y;
    return order != 0 ? order : i < k ? -1 : i > k;
}

typedef struct {
    int32_t length; /* of the longest prompt */
    int64_t first; /* the first question */
    int64_t at, count; /* in the order by pictures */
} group;

static int longest_first(const void *x, const void *y)
{
    const group *a = x, *b = y;
    return a->length != b->length ? (a->length > b->length ? -1 : 1) : a->first < b->first ? -1 : a->first > b->first;
}

/* Questions about the same pictures stand together, groups with the longest prompts first. */
static void order_questions(bif_asker *a)
{
    const int64_t count = a->questions->count;
    int64_t *sorted = bif_calloc((size_t)count, sizeof *sorted), groups = 0, at = 0;
    group *all = bif_calloc((size_t)count, sizeof *all);
    for (int64_t i = 0; i < count; i++) {
        sorted[i] = i;
    }
    qsort_r(sorted, (size_t)count, sizeof *sorted, by_pictures_and_place, a);
    for (int64_t i = 0; i < count; i++) {
        const bool alike = i > 0 && a->questions->items[sorted[i]].images > 0 && by_pictures(&sorted[i - 1], &sorted[i], a) == 0;
        if (!alike) {
            all[groups++] = (group){.first = sorted[i], .at = i};
        }
        group *g = &all[groups - 1];
        g->length = a->lengths[sorted[i]] > g->length ? a->lengths[sorted[i]] : g->length;
        g->count++;
    }
    qsort(all, (size_t)groups, sizeof *all, longest_first);
    a->order = bif_calloc((size_t)count, sizeof *a->order);
    for (int64_t i = 0; i < groups; i++) {
        memcpy(a->order + at, sorted + all[i].at, (size_t)all[i].count * sizeof *sorted);
        at += all[i].count;
    }
    free(sorted);
    free(all);
}

/* ---- opening ---- */

static const char *prompt_of(const bif_asker *a, const bif_question *q)
{
    return a->settings->way == BIF_ASK_DECODE ? q->prompt : q->bare;
}

/* The tokens of an option behind the question, its stop token included: what would be supervised if it were the answer of a sample. */
static bif_status encode_option(const bif_asker *a, const bif_question *q, int64_t option, bif_ids *out)
{
    bif_status st = BIF_OK;
    bif_encoded whole = {0};
    char *question = bif_strdup(q->bare), *sample = NULL;
    for (int64_t i = 0; i < q->images && strstr(q->bare, "<image>") == NULL; i++) {
        char *more = bif_format("<image>\n%s", question);
        free(question);
        question = more;
    }
    json_t *value = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "conversations", "from", "human", "value", question, "from", "gpt", "value",
                              q->options[option]);
    sample = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    out->count = 0;
    if (sample == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "an option is not UTF-8"));
    }
    BIF_TRY(bif_chat_encode(&a->session->chat, "option", sample, strlen(sample), q->images, &whole));
    for (size_t t = 0; t < whole.ids.count; t++) {
        if (whole.labels.ids[t] != BIF_LABEL_NONE) {
            bif_ids_push(out, whole.ids.ids[t]);
        }
    }
done:
    bif_encoded_free(&whole);
    free(question);
    free(sample);
    return st;
}

/* When ranking: how many options there are, and the longest. */
static bif_status measure_options(bif_asker *a)
{
    bif_status st = BIF_OK;
    bif_ids ids = {0};
    for (int64_t i = 0; i < a->questions->count; i++) {
        const bif_question *q = &a->questions->items[i];
        st = q->option_count > 0 ? BIF_OK : bif_fail(BIF_ERR_DATA, "has no options to rank");
        for (int64_t k = 0; st == BIF_OK && k < q->option_count; k++) {
            st = encode_option(a, q, k, &ids);
            a->longest_option = (int64_t)ids.count > a->longest_option ? (int64_t)ids.count : a->longest_option;
        }
        a->most_options = q->option_count > a->most_options ? q->option_count : a->most_options;
        if (st != BIF_OK) {
            BIF_TRY(at_question(st, q));
        }
    }
done:
    bif_ids_free(&ids);
    return st;
}

static bif_status encode_prompt(const bif_asker *a, const bif_question *q, bif_encoded *out)
{
    if (q->turns == 0) {
        return bif_chat_prompt(&a->session->chat, prompt_of(a, q), q->images, out);
    }
    const char **values = bif_calloc((size_t)q->turns + 1, sizeof *values);
    memcpy(values, q->before, (size_t)q->turns * sizeof *values);
    values[q->turns] = prompt_of(a, q);
    const bif_status st = bif_chat_dialogue(&a->session->chat, values, (size_t)q->turns + 1, q->images, out);
    free(values);
    return st;
}

/* Every prompt once, for its length and the digest. */
static bif_status measure_prompts(bif_asker *a, int64_t *longest)
{
    bif_status st = BIF_OK;
    const bif_questions *set = a->questions;
    bif_digest *digest = bif_digest_new();
    a->lengths = bif_calloc((size_t)set->count, sizeof *a->lengths);
    *longest = 1;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        bif_encoded prompt = {0};
        if (q->images > 0 && a->session->model.kind != BIF_MODEL_LLAVA) {
            BIF_TRY(at_question(bif_fail(BIF_ERR_USAGE,
                                         "has a picture, but %s is a decoder alone and cannot look at it; name a LLaVA checkpoint",
                                         a->session->folder),
                                q));
        }
        st = encode_prompt(a, q, &prompt);
        a->lengths[i] = (int32_t)prompt.ids.count;
        *longest = (int64_t)prompt.ids.count > *longest ? (int64_t)prompt.ids.count : *longest;
        bif_digest_update(digest, &a->lengths[i], sizeof a->lengths[i]);
        bif_digest_update(digest, prompt.ids.ids, prompt.ids.count * sizeof *prompt.ids.ids);
        bif_encoded_free(&prompt);
        if (st != BIF_OK) {
            BIF_TRY(at_question(st, q));
        }
    }
done:
    bif_digest_finish(digest, a->digest);
    return st;
}

/* All that is known without the device: prompts are encoded. */
static bif_status prepare(bif_session *session, const bif_questions *questions, const bif_ask_options *options, bif_asker **out,
                          bif_generator_limits *limits)
{
    bif_status st = BIF_OK;
    const int64_t side = session->model.kind == BIF_MODEL_LLAVA ? session->model.vit.image : 0, batch = options->batch;
    int64_t longest = 1;
    bif_asker *a = bif_calloc(1, sizeof *a);
    *out = a;
    *a = (bif_asker){.session = session, .questions = questions, .settings = options, .root_fd = -1, .bytes = 3 * side * side};
    a->prompts = bif_calloc((size_t)batch, sizeof *a->prompts);
    a->requests = bif_calloc((size_t)batch, sizeof *a->requests);
    a->answers = bif_calloc((size_t)batch, sizeof *a->answers);
    place_pictures(a);
    if (options->way != BIF_ASK_DECODE) { /* first: what has no options has no prompt without them, either */
        BIF_TRY(measure_options(a));
    }
    BIF_TRY(measure_prompts(a, &longest));
    *limits = (bif_generator_limits){.batch = batch,
                                     .max_prompt = longest,
                                     .max_images = a->most,
                                     .decoding = options->way == BIF_ASK_DECODE ? options->decoding : (bif_decoding){.max_new = 1},
                                     .max_options = a->most_options,
                                     .max_option = a->longest_option};
done:
    return st;
}

bif_status bif_asker_measure(bif_session *session, const bif_questions *questions, const bif_ask_options *options, size_t *bytes)
{
    bif_asker *a = NULL;
    bif_generator_limits limits;
    const bif_status st = prepare(session, questions, options, &a, &limits);
    *bytes = st == BIF_OK ? bif_generator_measure(session, &limits) : 0;
    bif_asker_free(a);
    return st;
}

bif_status bif_asker_new(bif_session *session, const bif_questions *questions, const bif_ask_options *options, bif_asker **out)
{
    bif_status st = BIF_OK;
    const int64_t batch = options->batch;
    int64_t bytes = 0;
    bif_generator_limits limits;
    BIF_TRY(prepare(session, questions, options, out, &limits));
    bif_asker *a = *out;
    order_questions(a);
    if (!bif_mul_i64(batch * a->most, a->bytes, &bytes)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a question with %lld pictures", questions->items[0].file, (long long)a->most));
    }
    a->pixels = bif_calloc((size_t)bytes, sizeof *a->pixels);
    a->jobs = bif_calloc((size_t)(batch * a->most), sizeof *a->jobs);
    if (a->most > 0 && questions->shard_count == 0 && options->ablate != BIF_ABLATE_BLANK) {
        a->root_fd = open(options->image_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (a->root_fd < 0) {
            BIF_TRY(bif_fail_errno(errno, "image root %s", options->image_root));
        }
    }
    if (options->way != BIF_ASK_DECODE) {
        a->options = bif_calloc((size_t)batch, sizeof *a->options);
        for (int64_t i = 0; i < batch; i++) {
            a->options[i] = bif_calloc((size_t)a->most_options, sizeof **a->options);
        }
        a->scores = bif_calloc((size_t)(batch * a->most_options), sizeof *a->scores);
    }
    BIF_TRY(bif_generator_new(session, &limits, &a->generator));
    bif_generator_between(a->generator, options->between, options->context);
done:
    return st;
}

bif_status bif_asker_find_pictures(const bif_asker *a)
{
    const bif_questions *set = a->questions;
    const bif_question *worst = NULL; /* the first in the files' order, not in that of asking */
    const bif_seen *gone = NULL, *last = NULL;
    for (int64_t i = 0; a->root_fd >= 0 && i < set->count; i++) {
        const int64_t which = a->order[i];
        const bif_question *q = &set->items[which];
        for (int64_t k = 0; k < q->images; k++) {
            const bif_seen *picture = &q->pictures[k];
            if (picture->base64.size > 0 || (last != NULL && compare_pictures(&last, &picture) == 0) || (worst != NULL && q > worst)) {
                continue;
            }
            int fd = -1;
            size_t size = 0;
            if (bif_open_beneath(a->root_fd, a->settings->image_root, picture->name, &fd, &size) == BIF_OK) {
                close(fd);
                last = picture;
            } else {
                worst = q;
                gone = picture;
                bif_error_clear();
            }
        }
    }
    if (worst == NULL) {
        return BIF_OK;
    }
    int fd = -1;
    size_t size = 0;
    const bif_status st = bif_open_beneath(a->root_fd, a->settings->image_root, gone->name, &fd, &size);
    if (st == BIF_OK) { /* it came just now */
        close(fd);
        return BIF_OK;
    }
    return at_question(st, worst);
}

void bif_asker_free(bif_asker *a)
{
    if (a == NULL) {
        return;
    }
    for (int64_t i = 0; i < a->settings->batch; i++) {
        bif_encoded_free(&a->prompts[i]);
        bif_ids_free(&a->answers[i]);
    }
    for (int64_t i = 0; a->options != NULL && i < a->settings->batch; i++) {
        for (int64_t k = 0; k < a->most_options; k++) {
            bif_ids_free(&a->options[i][k]);
        }
        free(a->options[i]);
    }
    bif_generator_free(a->generator);
    free(a->options);
    free(a->scores);
    free(a->prompts);
    free(a->requests);
    free(a->answers);
    free(a->pixels);
    free(a->jobs);
    free(a->lengths);
    free(a->order);
    free(a->first);
    free(a->shown);
    if (a->root_fd >= 0) {
        close(a->root_fd);
    }
    free(a);
}

const int64_t *bif_asker_order(const bif_asker *asker)
{
    return asker->order;
}

int64_t bif_asker_cut(const bif_asker *asker)
{
    return asker->cut;
}

const char *bif_asker_digest(const bif_asker *asker)
{
    return asker->digest;
}

/* ---- asking ---- */

static void load(bif_asker *a, job *j)
{
    if (a->settings->ablate == BIF_ABLATE_BLANK) {
        bif_preprocess_blank(&a->session->preprocess, 1, j->pixels);
    } else if (j->picture->base64.size > 0) {
        j->status = bif_session_image_base64(a->session, j->picture->name, j->picture->base64, j->pixels);
    } else if (j->picture->shard != NULL) {
        j->status = bif_session_image_shard(a->session, j->picture->shard, j->picture->number, j->pixels);
    } else {
        j->status = bif_session_image(a->session, a->root_fd, a->settings->image_root, j->picture->name, j->pixels);
    }
    if (j->status != BIF_OK) { /* messages are a thread's own */
        j->error = bif_strdup(bif_error_message());
        bif_error_clear();
    }
}

/* The pictures of a batch, each that differs once. */
static bif_status load_all(bif_asker *a, int64_t count)
{
    bif_status st = BIF_OK;
#pragma omp parallel for schedule(dynamic) num_threads(a->settings->threads)
    for (int64_t i = 0; i < count; i++) {
        if (a->jobs[i].copy_of == 0) {
            load(a, &a->jobs[i]);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const job *j = &a->jobs[i];
        if (j->copy_of > 0) {
            memcpy(j->pixels, a->jobs[j->copy_of - 1].pixels, (size_t)a->bytes);
        } else if (j->status != BIF_OK && st == BIF_OK) {
            st = at_question(bif_fail(j->status, "%s", j->error), &a->questions->items[j->question]);
        }
        free(j->error);
    }
    return st;
}

static bool same_picture(const bif_asker *a, const bif_seen *x, const bif_seen *y)
{
    return a->settings->ablate == BIF_ABLATE_BLANK || compare_pictures(&x, &y) == 0;
}

/* 1 + an earlier question of the batch about the same pictures in the same order, 0 = none. */
static int64_t same_as(const bif_asker *a, const int64_t *which, int64_t i)
{
    const int64_t images = a->questions->items[which[i]].images;
    for (int64_t k = i - 1; k >= 0 && images > 0; k--) { /* they mostly stand together */
        bool same = a->questions->items[which[k]].images == images;
        for (int64_t p = 0; same && p < images; p++) {
            same = same_picture(a, a->shown[a->first[which[i]] + p], a->shown[a->first[which[k]] + p]);
        }
        if (same) {
            return k + 1;
        }
    }
    return 0;
}

static void add_job(bif_asker *a, int64_t *jobs, int64_t question, const bif_seen *picture, uint8_t *pixels)
{
    job *j = &a->jobs[*jobs];
    *j = (job){.picture = picture, .question = question, .pixels = pixels};
    for (int64_t k = 0; k < *jobs && j->copy_of == 0; k++) {
        j->copy_of = a->jobs[k].copy_of == 0 && same_picture(a, picture, a->jobs[k].picture) ? k + 1 : 0;
    }
    ++*jobs;
}

/* The likeliest option, the first of equals. */
static bif_status choose_options(bif_asker *a, const int64_t *which, int64_t count, char **predictions)
{
    const bif_status st = bif_rank(a->generator, a->requests, count, a->scores);
    for (int64_t i = 0; st == BIF_OK && i < count; i++) {
        const bif_question *q = &a->questions->items[which[i]];
        int64_t best = 0;
        double most = 0.0;
        for (int64_t k = 0; k < q->option_count; k++) {
            const double tokens = a->settings->way == BIF_ASK_RANK_MEAN ? (double)a->options[i][k].count : 1.0,
                         score = a->scores[i * a->most_options + k] / tokens;
            if (k == 0 || score > most) {
                most = score;
                best = k;
            }
        }
        predictions[i] = bif_strdup(q->letters[best]);
    }
    return st;
}

/* LLaVA's scripts (and the other harnesses) write down what str.strip leaves, and some scorers compare it as it stands. */
static void strip(char *text)
{
    const bif_span bare = bif_text_strip((bif_span){text, strlen(text)});
    memmove(text, bare.text, bare.size);
    text[bare.size] = '\0';
}

bif_status bif_ask(bif_asker *a, const int64_t *which, int64_t count, char **predictions)
{
    bif_status st = BIF_OK;
    int64_t jobs = 0;
    for (int64_t i = 0; i < count; i++) {
        const bif_question *q = &a->questions->items[which[i]];
        uint8_t *pixels = a->pixels + i * a->most * a->bytes;
        const int64_t same = same_as(a, which, i);
        bif_encoded_free(&a->prompts[i]);
        BIF_TRY(encode_prompt(a, q, &a->prompts[i]));
        a->requests[i] = (bif_request){.prompt = &a->prompts[i],
                                       .pixels = same > 0 ? a->requests[same - 1].pixels : pixels,
                                       .images = q->images,
                                       .same = same,
                                       .number = (uint64_t)which[i]};
        for (int64_t k = 0; a->options != NULL && k < q->option_count; k++) {
            BIF_TRY(encode_option(a, q, k, &a->options[i][k]));
            a->requests[i].options = a->options[i];
            a->requests[i].option_count = q->option_count;
        }
        for (int64_t k = 0; k < q->images && same == 0; k++) {
            add_job(a, &jobs, which[i], a->shown[a->first[which[i]] + k], pixels + k * a->bytes);
        }
    }
    BIF_TRY(load_all(a, jobs));
    if (a->options != NULL) {
        st = choose_options(a, which, count, predictions);
        goto done;
    }
    BIF_TRY(bif_generate(a->generator, a->requests, count, a->answers));
    for (int64_t i = 0; i < count; i++) {
        BIF_TRY(bif_answer_text(a->session, &a->answers[i], &predictions[i]));
        strip(predictions[i]);
        a->cut += (int64_t)a->answers[i].count >= a->settings->decoding.max_new;
    }
done:
    return st;
}
