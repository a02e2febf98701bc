/* Measures of the samples of a shard, from its tables and the columns beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "data/prune.h"

enum { PIXELS = 0, MEAN_STD, QUALITY, CLIP_IMAGE, CLIP_TEXT, CAPTION, FIXED = BIF_PRUNE_METHODS };

/* The open columns of a shard. */
typedef struct {
    bif_column *fixed[FIXED], **score;
} columns;

/* ---- columns ---- */

static bif_status need(const bif_prune_plan *plan, const bif_shard *shard, const char *name, bif_column_of of, bif_column_type type,
                       int64_t width, const char *advice, bif_column **out)
{
    if (!plan->options->measure) {
        return bif_column_need(shard, name, of, type, width, advice, out);
    }
    bif_status st = bif_column_open(shard, name, out);
    const bif_column_info *info = *out != NULL ? bif_column_describe(*out) : NULL;
    if (info != NULL && (info->of != of || info->type != type || (width > 0 && info->width != width))) {
        st = bif_fail(BIF_ERR_DATA, "%s: column %s is of another kind than expected; %s", bif_shard_path(shard), name, advice);
    }
    return st;
}

static void close_columns(columns *c, int64_t scores)
{
    for (int i = 0; i < FIXED; i++) {
        bif_column_close(c->fixed[i]);
    }
    for (int64_t i = 0; c->score != NULL && i < scores; i++) {
        bif_column_close(c->score[i]);
    }
    free(c->score);
}

static bif_status open_columns(const bif_prune_plan *plan, const bif_shard *shard, columns *c)
{
    static const char hash[] = "run bifocal data hash", embed[] = "run bifocal data embed";
    bif_status st = BIF_OK;
    const bif_prune_options *o = plan->options;
    char *image = bif_format("%s.image", o->clip), *text = bif_format("%s.text", o->clip);
    c->score = bif_calloc((size_t)o->columns + 1, sizeof(bif_column *));
    if (plan->need[BIF_PRUNE_BY_DECODABLE]) {
        BIF_TRY(need(plan, shard, "pixels", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U64, 2, hash, &c->fixed[PIXELS]));
    }
    if (plan->need[BIF_PRUNE_BY_DEVIATION]) {
        BIF_TRY(need(plan, shard, "mean_std", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F32, 2, hash, &c->fixed[MEAN_STD]));
    }
    if (plan->need[BIF_PRUNE_BY_QUALITY]) {
        BIF_TRY(need(plan, shard, "pdq_quality", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, 1, hash, &c->fixed[QUALITY]));
    }
    if (plan->need[BIF_PRUNE_BY_CLIP]) {
        BIF_TRY(need(plan, shard, image, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_F16, 0, embed, &c->fixed[CLIP_IMAGE]));
        BIF_TRY(need(plan, shard, text, BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_F16, 0, embed, &c->fixed[CLIP_TEXT]));
        if (c->fixed[CLIP_IMAGE] != NULL && c->fixed[CLIP_TEXT] != NULL) {
            const int64_t a = bif_column_describe(c->fixed[CLIP_IMAGE])->width, b = bif_column_describe(c->fixed[CLIP_TEXT])->width;
            if (a != b) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %s has %lld numbers a row, %s has %lld; they are of different models",
                                 bif_shard_path(shard), image, (long long)a, text, (long long)b));
            }
        }
    }
    if (o->caption_column != NULL) {
        BIF_TRY(bif_column_need_captions(shard, o->caption_column, &c->fixed[CAPTION]));
    }
    for (int64_t i = 0; i < o->columns; i++) {
        const char *name = o->column[i].name;
        BIF_TRY(bif_column_open(shard, name, &c->score[i]));
        if (c->score[i] == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: has no column %s", bif_shard_path(shard), name));
        }
        const bif_column_info *info = bif_column_describe(c->score[i]);
        if (info->width != 1 || info->type == BIF_COLUMN_TEXT) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: column %s is not one number a row", bif_shard_path(shard), name));
        }
    }
done:
    free(image);
    free(text);
    return st;
}

static bif_status check_methods(const bif_prune_plan *plan, const bif_shard *shard, const columns *c)
{
    bif_status st = BIF_OK;
    for (int i = 0; i < FIXED; i++) {
        BIF_TRY(bif_column_same_method(shard, c->fixed[i], plan->method[i]));
    }
    for (int64_t i = 0; i < plan->options->columns; i++) {
        BIF_TRY(bif_column_same_method(shard, c->score[i], plan->column_method[i]));
    }
done:
    return st;
}

/* Embeddings of two checkpoints have nothing to say to each other: where both methods name their weights, these are the same. */
static bif_status same_weights(const bif_prune_plan *plan)
{
    static const char name[] = "weights ";
    const char *image = plan->method[CLIP_IMAGE] != NULL ? strstr(plan->method[CLIP_IMAGE], name) : NULL;
    const char *text = plan->method[CLIP_TEXT] != NULL ? strstr(plan->method[CLIP_TEXT], name) : NULL;
    if (image == NULL || text == NULL || strncmp(image, text, strlen(name) + 32) == 0) {
        return BIF_OK;
    }
    return bif_fail(BIF_ERR_DATA,
                    "columns %s and %s are of different checkpoints (\"%s\" and \"%s\"): run bifocal data embed with one of them",
                    plan->method_name[CLIP_IMAGE], plan->method_name[CLIP_TEXT], plan->method[CLIP_IMAGE], plan->method[CLIP_TEXT]);
}

/* ---- the plan ---- */

bif_status bif_prune_plan_make(const bif_pool *pool, const bif_prune_options *options, bif_prune_plan *plan)
{
    bif_status st = BIF_OK;
    bif_shard *first = NULL;
    columns c = {0};
    *plan = (bif_prune_plan){.pool = pool, .options = options};
    plan->column_method = bif_calloc((size_t)options->columns + 1, sizeof(char *));
    for (int k = 0; k < BIF_PRUNE_KINDS; k++) {
        const bif_prune_kind *kind = &bif_prune_kinds[k];
        plan->need[kind->measure] = plan->need[kind->measure] || options->use[k];
    }
    plan->texts = options->max_same_caption > 0 && !options->measure;
    for (int m = 0; options->measure && m < BIF_PRUNE_MEASURES; m++) {
        plan->need[m] = m != BIF_PRUNE_BY_SCRIPT || options->scripts != NULL;
    }
    for (int m = 0; m < BIF_PRUNE_MEASURES; m++) {
        plan->slot[m] = plan->need[m] ? (int)plan->slots++ : -1;
    }
    plan->first_score = plan->slots;
    plan->slots += 2 * options->columns;
    if (options->scripts != NULL) {
        BIF_TRY(bif_script_set(options->scripts, plan->script));
    }
    if (pool->shards > 0) {
        BIF_TRY(bif_pool_shard(pool, 0, &first));
        BIF_TRY(open_columns(plan, first, &c));
        for (int i = 0; i < FIXED; i++) {
            plan->method[i] = c.fixed[i] != NULL ? bif_strdup(bif_column_describe(c.fixed[i])->method) : NULL;
            plan->method_name[i] = c.fixed[i] != NULL ? bif_strdup(bif_column_describe(c.fixed[i])->name) : NULL;
        }
        for (int64_t i = 0; i < options->columns; i++) {
            plan->column_method[i] = bif_strdup(bif_column_describe(c.score[i])->method);
        }
        BIF_TRY(same_weights(plan));
    }
done:
    close_columns(&c, options->columns);
    bif_shard_close(first);
    return st;
}

void bif_prune_plan_free(bif_prune_plan *plan)
{
    for (int i = 0; i < FIXED; i++) {
        free(plan->method[i]);
        free(plan->method_name[i]);
    }
    for (int64_t i = 0; plan->column_method != NULL && i < plan->options->columns; i++) {
        free(plan->column_method[i]);
    }
    free(plan->column_method);
}

/* ---- pictures ---- */

static float least(float a, float b)
{
    return isnan(a) || b < a ? b : a;
}

static float greatest(float a, float b)
{
    return isnan(a) || b > a ? b : a;
}

static float cosine(const uint16_t *a, const uint16_t *b, int64_t width)
{
    double dot = 0.0, aa = 0.0, bb = 0.0;
    for (int64_t i = 0; i < width; i++) {
        const double x = bif_from_f16(a[i]), y = bif_from_f16(b[i]);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    return aa > 0.0 && bb > 0.0 && isfinite(dot) ? (float)(dot / sqrt(aa * bb)) : -1.0f;
}

static bif_status measure_image(const bif_prune_plan *plan, const bif_shard *shard, const columns *c, int64_t image, int64_t sample,
                                float *v)
{
    bif_shard_image record;
    const bif_status st = bif_shard_get_image(shard, image, &record);
    if (st != BIF_OK) {
        return st;
    }
    const double shorter = record.width < record.height ? record.width : record.height,
                 longer = record.width > record.height ? record.width : record.height;
    const double pixels = (double)record.width * (double)record.height;
    if (plan->need[BIF_PRUNE_BY_SIDE]) {
        v[BIF_PRUNE_BY_SIDE] = least(v[BIF_PRUNE_BY_SIDE], (float)shorter);
    }
    if (plan->need[BIF_PRUNE_BY_ASPECT]) {
        v[BIF_PRUNE_BY_ASPECT] = greatest(v[BIF_PRUNE_BY_ASPECT], shorter > 0.0 ? (float)(longer / shorter) : INFINITY);
    }
    if (plan->need[BIF_PRUNE_BY_BYTES]) {
        v[BIF_PRUNE_BY_BYTES] = least(v[BIF_PRUNE_BY_BYTES], pixels > 0.0 ? (float)((double)record.size / pixels) : 0.0f);
    }
    if (c->fixed[PIXELS] != NULL) {
        const uint64_t *digest = (const uint64_t *)bif_column_data(c->fixed[PIXELS]) + 2 * image;
        v[BIF_PRUNE_BY_DECODABLE] = least(v[BIF_PRUNE_BY_DECODABLE], digest[0] != 0 || digest[1] != 0 ? 1.0f : 0.0f);
    }
    if (c->fixed[MEAN_STD] != NULL) {
        const float deviation = ((const float *)bif_column_data(c->fixed[MEAN_STD]))[2 * image + 1];
        v[BIF_PRUNE_BY_DEVIATION] = least(v[BIF_PRUNE_BY_DEVIATION], isnan(deviation) ? 0.0f : deviation);
    }
    if (c->fixed[QUALITY] != NULL) {
        const uint8_t quality = ((const uint8_t *)bif_column_data(c->fixed[QUALITY]))[image];
        v[BIF_PRUNE_BY_QUALITY] = least(v[BIF_PRUNE_BY_QUALITY], quality == 255 ? 0.0f : (float)quality);
    }
    if (c->fixed[CLIP_IMAGE] != NULL && c->fixed[CLIP_TEXT] != NULL) {
        const int64_t width = bif_column_describe(c->fixed[CLIP_IMAGE])->width;
        const float score = cosine((const uint16_t *)bif_column_data(c->fixed[CLIP_IMAGE]) + image * width,
                                   (const uint16_t *)bif_column_data(c->fixed[CLIP_TEXT]) + sample * width, width);
        v[BIF_PRUNE_BY_CLIP] = least(v[BIF_PRUNE_BY_CLIP], score);
    }
    return BIF_OK;
}

/* ---- score columns ---- */

static double number_at(const bif_column *column, int64_t row)
{
    const void *data = bif_column_data(column);
    switch (bif_column_describe(column)->type) {
    case BIF_COLUMN_U8: return ((const uint8_t *)data)[row];
    case BIF_COLUMN_U16: return ((const uint16_t *)data)[row];
    case BIF_COLUMN_U32: return ((const uint32_t *)data)[row];
    case BIF_COLUMN_U64: return (double)((const uint64_t *)data)[row];
    case BIF_COLUMN_F16: return bif_from_f16(((const uint16_t *)data)[row]);
    case BIF_COLUMN_F32: return ((const float *)data)[row];
    case BIF_COLUMN_TEXT: break;
    }
    return NAN;
}

/* No number is below every least and above every greatest one. */
static void add_score(float *v, double value)
{
    v[0] = least(v[0], isnan(value) ? -INFINITY : (float)value);
    v[1] = greatest(v[1], isnan(value) ? INFINITY : (float)value);
}

static void measure_scores(const bif_prune_plan *plan, const columns *c, const bif_shard_sample *sample, int64_t number, float *v)
{
    for (int64_t i = 0; i < plan->options->columns; i++) {
        float *to = v + BIF_PRUNE_MEASURES + 2 * i;
        if (bif_column_describe(c->score[i])->of == BIF_COLUMN_OF_SAMPLE) {
            add_score(to, number_at(c->score[i], number));
            continue;
        }
        for (int64_t k = 0; k < sample->image_count; k++) {
            add_score(to, number_at(c->score[i], (int64_t)sample->images[k]));
        }
    }
}

/* ---- captions ---- */

static void measure_caption(const bif_prune_plan *plan, const bif_shard_sample *sample, const char *column, float *v, bif_prune_text *key)
{
    char *own = NULL;
    size_t size = 0;
    const char *text = column;
    if (text != NULL) {
        size = strlen(text);
    } else {
        bif_sample_caption(sample, &own, &size);
        text = own != NULL ? own : "";
    }
    const bif_text_measures m = bif_text_measure(text, size);
    v[BIF_PRUNE_BY_CHARS] = (float)m.chars;
    v[BIF_PRUNE_BY_WORDS] = (float)m.words;
    v[BIF_PRUNE_BY_ALPHABETIC] = (float)m.alphabetic;
    v[BIF_PRUNE_BY_MAIN_SCRIPT] = (float)m.script;
    if (plan->need[BIF_PRUNE_BY_REPETITION]) {
        v[BIF_PRUNE_BY_REPETITION] = (float)bif_text_repetition(text, size, plan->options->repetition_words);
    }
    if (plan->need[BIF_PRUNE_BY_SCRIPT]) {
        v[BIF_PRUNE_BY_SCRIPT] = (float)bif_text_script_share(text, size, plan->script);
    }
    if (plan->need[BIF_PRUNE_BY_FILE_NAME]) {
        v[BIF_PRUNE_BY_FILE_NAME] = bif_text_is_file_name(text, size) ? 1.0f : 0.0f;
    }
    if (key != NULL) {
        bif_text_key(text, size, key->key);
    }
    free(own);
}

static bool needs_caption(const bif_prune_plan *plan)
{
    for (int m = BIF_PRUNE_BY_CHARS; m <= BIF_PRUNE_BY_FILE_NAME; m++) {
        if (plan->need[m]) {
            return true;
        }
    }
    return plan->texts || plan->need[BIF_PRUNE_BY_MAIN_SCRIPT];
}

bif_status bif_prune_measure_shard(const bif_prune_plan *plan, int64_t number, float *values, bif_prune_text *texts)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    columns c = {0};
    const bool captions = needs_caption(plan);
    const int64_t measures = BIF_PRUNE_MEASURES + 2 * plan->options->columns;
    float *v = bif_malloc((size_t)measures * sizeof *v);
    BIF_TRY(bif_pool_shard(plan->pool, number, &shard));
    BIF_TRY(open_columns(plan, shard, &c));
    BIF_TRY(check_methods(plan, shard, &c));
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample;
        for (int64_t m = 0; m < measures; m++) {
            v[m] = NAN;
        }
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        for (int64_t k = 0; k < sample.image_count; k++) {
            BIF_TRY(measure_image(plan, shard, &c, (int64_t)sample.images[k], i, v));
        }
        measure_scores(plan, &c, &sample, i, v);
        if (captions) {
            const char *column = c.fixed[CAPTION] != NULL ? bif_column_text(c.fixed[CAPTION], i) : NULL;
            measure_caption(plan, &sample, column, v, texts != NULL ? &texts[i] : NULL);
        }
        if (texts != NULL) {
            BIF_TRY(bif_sample_uid(shard, i, texts[i].uid));
        }
        float *row = values + i * plan->slots;
        for (int m = 0; m < BIF_PRUNE_MEASURES; m++) {
            if (plan->slot[m] >= 0) {
                row[plan->slot[m]] = v[m];
            }
        }
        memcpy(row + plan->first_score, v + BIF_PRUNE_MEASURES, (size_t)(measures - BIF_PRUNE_MEASURES) * sizeof *row);
    }
done:
    free(v);
    close_columns(&c, plan->options->columns);
    bif_shard_close(shard);
    return st;
}
