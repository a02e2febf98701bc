#include "eval/zeroshot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The next placeholder and its length, or NULL. */
static const char *placeholder(const char *pattern, size_t *size)
{
    for (const char *at = strchr(pattern, '{'); at != NULL; at = strchr(at + 1, '{')) {
        *size = strncmp(at, "{}", 2) == 0 ? 2 : strncmp(at, "{c}", 3) == 0 ? 3 : 0;
        if (*size > 0) {
            return at;
        }
    }
    return NULL;
}

char *bif_prompt_text(const char *pattern, const char *name)
{
    char *out = NULL;
    size_t length = 0, size = 0;
    for (const char *from = pattern; from != NULL;) {
        const char *at = placeholder(from, &size);
        const size_t before = at != NULL ? (size_t)(at - from) : strlen(from), insert = at != NULL ? strlen(name) : 0;
        out = bif_realloc(out, length + before + insert + 1, 1);
        memcpy(out + length, from, before);
        memcpy(out + length + before, name, insert);
        length += before + insert;
        from = at != NULL ? at + size : NULL;
    }
    out[length] = '\0';
    return out;
}

static bif_status check_templates(const char *path, const bif_lines *templates)
{
    size_t size = 0;
    if (templates->count == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: holds no templates; one a line is expected, such as: a photo of a {}.", path);
    }
    for (int64_t t = 0; t < templates->count; t++) {
        if (placeholder(templates->line[t], &size) == NULL) {
            return bif_fail(BIF_ERR_DATA, "%s: template '%s' has no {} for the class's name", path, templates->line[t]);
        }
    }
    return BIF_OK;
}

/* Class rows [classes, E] from the prompts' [classes, templates, E]. */
static void average(const float *prompts, int64_t classes, int64_t templates, int64_t width, float *out)
{
    double *mean = bif_calloc((size_t)width, sizeof *mean);
    for (int64_t c = 0; c < classes; c++) {
        double square = 0.0;
        memset(mean, 0, (size_t)width * sizeof *mean);
        for (int64_t t = 0; t < templates; t++) {
            for (int64_t k = 0; k < width; k++) {
                mean[k] += (double)prompts[(c * templates + t) * width + k];
            }
        }
        for (int64_t k = 0; k < width; k++) {
            square += mean[k] * mean[k];
        }
        for (int64_t k = 0; k < width; k++) {
            out[c * width + k] = (float)(mean[k] / sqrt(square));
        }
    }
    free(mean);
}

static bif_status embed_classes(bif_session *s, bif_comm *comm, const bif_zeroshot_options *o, const bif_lines *classes,
                                const bif_lines *templates, float *out)
{
    bif_status st = BIF_OK;
    const int64_t each = templates->count > 0 ? templates->count : 1, count = classes->count * each, width = s->model.projection;
    char **text = bif_calloc((size_t)count, sizeof *text);
    bif_embed_item *items = bif_calloc((size_t)count, sizeof *items);
    float *prompts = bif_calloc((size_t)(count * width), sizeof *prompts);
    for (int64_t i = 0; i < count; i++) {
        text[i] = bif_prompt_text(templates->count > 0 ? templates->line[i % each] : "{}", classes->line[i / each]);
        items[i] = (bif_embed_item){.value = text[i], .where = o->classes};
    }
    BIF_TRY(bif_embed_texts(s, comm, o->batch, false, items, count, prompts));
    average(prompts, classes->count, each, width, out);
done:
    for (int64_t i = 0; i < count; i++) {
        free(text[i]);
    }
    free(text);
    free(items);
    free(prompts);
    return st;
}

static bif_status read_files(const bif_zeroshot_options *o, bif_lines *classes, bif_lines *templates, bif_labels *labels)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_lines_read(o->classes, classes));
    if (classes->count < 2) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds %lld classes; one name a line, two at least", o->classes, (long long)classes->count));
    }
    if (o->templates != NULL) {
        BIF_TRY(bif_lines_read(o->templates, templates));
        BIF_TRY(check_templates(o->templates, templates));
    }
    BIF_TRY(o->images != NULL ? bif_labels_read(o->images, classes, labels)
                              : bif_labels_read_shards(o->shards, o->shard_count, classes, labels));
done:
    return st;
}

bif_status bif_zeroshot(bif_session *session, bif_comm *comm, const bif_zeroshot_options *options, bif_zeroshot_result *result)
{
    bif_status st = BIF_OK;
    const int64_t width = session->model.projection;
    bif_lines classes = {0}, templates = {0};
    bif_labels labels = {0};
    float *rows = NULL, *images = NULL;
    struct timespec from, to;
    *result = (bif_zeroshot_result){0};
    clock_gettime(CLOCK_MONOTONIC, &from);
    BIF_TRY(bif_comm_agree(comm, read_files(options, &classes, &templates, &labels)));
    rows = bif_calloc((size_t)(classes.count * width), sizeof *rows);
    images = bif_calloc((size_t)(labels.count * width), sizeof *images);
    BIF_TRY(embed_classes(session, comm, options, &classes, &templates, rows));
    BIF_TRY(bif_embed_images(session, comm, options->image_root, options->batch, labels.item, labels.count, images));
    BIF_TRY(bif_classify(session->device, comm, &labels, images, width, rows, NULL, classes.count, options->batch, &result->accuracy));
    clock_gettime(CLOCK_MONOTONIC, &to);
    result->classes = classes.count;
    result->templates = templates.count > 0 ? templates.count : 1;
    result->seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
done:
    bif_lines_free(&classes);
    bif_lines_free(&templates);
    bif_labels_free(&labels);
    free(rows);
    free(images);
    return st;
}
