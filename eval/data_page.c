#include "eval/data_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/text_measures.h"
#include "eval/html.h"

#define THUMBNAIL 260              /* longer side, in pixels */
#define PICTURE_BYTES ((uint64_t)256 << 20)
#define CAPTION_BYTES ((size_t)600)
#define ROWS 12 /* of a class */

/* ---- numbers ---- */

static void put_head_row(const bif_data_stats *s, const char *first, bif_text_buffer *out)
{
    bif_html_add(out, "<div class=\"scroll\"><table><thead><tr><th>");
    bif_html_words(out, first);
    bif_html_add(out, "</th>");
    for (int64_t k = 0; k < s->stages; k++) {
        bif_html_add(out, "<th>");
        bif_html_words(out, s->stage[k]);
        bif_html_add(out, "</th>");
    }
    bif_html_add(out, "</tr></thead><tbody>\n");
}

static void put_row(const bif_data_stats *s, const char *label, const int64_t *count, int64_t stride, bool share, bif_text_buffer *out)
{
    bif_html_addf(out, "<tr><td>%s", strncmp(label, "  ", 2) == 0 ? "&emsp;" : "");
    bif_html_words(out, label);
    bif_html_add(out, "</td>");
    for (int64_t k = 0; k < s->stages; k++) {
        bif_html_addf(out, "<td>%" PRId64, count[k * stride]);
        if (share && s->count[k][BIF_STAT_SAMPLES] > 0) {
            bif_html_addf(out, " <span class=\"soft small\">%.1f %%</span>", 100.0 * (double)count[k * stride] / (double)s->count[k][BIF_STAT_SAMPLES]);
        }
        bif_html_add(out, "</td>");
    }
    bif_html_add(out, "</tr>\n");
}

static void put_classes(const bif_data_stats *s, const char *title, const bif_stat_classes *classes, bool share, bif_text_buffer *out)
{
    if (classes->count == 0) {
        return;
    }
    bif_html_add(out, "<div>");
    put_head_row(s, title, out);
    for (int64_t i = 0; i < classes->count && i < ROWS; i++) {
        put_row(s, classes->row[i].name, classes->row[i].count, 1, share, out);
    }
    bif_html_add(out, "</tbody></table></div>\n");
    if (classes->count > ROWS) {
        bif_html_addf(out, "<p class=\"soft small\">and %" PRId64 " more</p>\n", classes->count - ROWS);
    }
    bif_html_add(out, "</div>\n");
}

static void put_spread(const bif_data_stats *s, const char *title, const bif_spread *spread, size_t stride, bif_text_buffer *out)
{
    static const char *const labels[] = {"used", "entropy, nats", "effective number", "share of the largest 1 %"};
    put_head_row(s, title, out);
    for (int row = 0; row < 4; row++) {
        bif_html_addf(out, "<tr><td>%s</td>", labels[row]);
        for (int64_t k = 0; k < s->stages; k++) {
            const bif_spread *x = (const bif_spread *)((const char *)spread + (size_t)k * stride);
            const double value[] = {(double)x->used, x->entropy, x->effective, x->top_share};
            bif_html_addf(out, "<td>%.6g</td>", value[row]);
        }
        bif_html_add(out, "</tr>\n");
    }
    bif_html_add(out, "</tbody></table></div>\n");
}

/* Bars of the first stage, and over them, filled, those of the last. */
static void put_histogram(const char *title, const int64_t *all, const int64_t *last, bif_text_buffer *out)
{
    int low = BIF_STAT_BINS, high = -1;
    int64_t most = 1;
    for (int i = 0; i < BIF_STAT_BINS; i++) {
        if (all[i] > 0) {
            low = i < low ? i : low;
            high = i;
            most = all[i] > most ? all[i] : most;
        }
    }
    if (high < 0) {
        return;
    }
    const double width = 300, height = 110, step = width / (high - low + 1);
    bif_html_add(out, "<div><h3>");
    bif_html_words(out, title);
    bif_html_addf(out, "</h3><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"histogram\">", width, height + 18);
    for (int i = low; i <= high; i++) {
        const double x = (i - low) * step, tall = height * (double)all[i] / (double)most, filled = height * (double)last[i] / (double)most;
        bif_html_addf(out,
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"var(--line)\"><title>from %.0f: %" PRId64 "</title></rect>"
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"var(--mine)\"><title>from %.0f: %" PRId64 " left</title></rect>",
                      x, height - tall, step * 0.9, tall, bif_stat_bin_start(i), all[i], x, height - filled, step * 0.9, filled, bif_stat_bin_start(i),
                      last[i]);
    }
    const int marks[] = {low, (low + high) / 2, high};
    for (int m = 0; m < 3; m++) {
        if (m == 0 || marks[m] > marks[m - 1] + 1) {
            bif_html_addf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"%s\" fill=\"var(--soft)\">%.0f</text>",
                          m == 2 ? width : (marks[m] - low) * step, height + 14, m == 2 ? "end" : "start", bif_stat_bin_start(marks[m]));
        }
    }
    bif_html_add(out, "</svg></div>\n");
}

static void put_numbers(const bif_data_stats *s, bif_text_buffer *out)
{
    const bif_quantiles *last = s->measure[s->stages - 1];
    if (s->stages > 1) {
        bif_html_add(out, "<div class=\"stage\">");
        for (int64_t k = 0; k < s->stages; k++) {
            const int64_t n = s->count[k][BIF_STAT_SAMPLES], all = s->count[0][BIF_STAT_SAMPLES];
            bif_html_add(out, "<b>");
            bif_html_words(out, s->stage[k]);
            bif_html_addf(out, "</b><div class=\"fill\" style=\"width:%.2f%%\"></div><span>%" PRId64 "</span>", 100.0 * (double)n / (double)all, n);
        }
        bif_html_add(out, "</div>\n");
    }
    put_head_row(s, "", out);
    for (int i = 0; i < BIF_STATS; i++) {
        if (s->count[0][i] >= 0) {
            put_row(s, bif_stat_names[i].label, &s->count[0][i], BIF_STATS, false, out);
        }
    }
    bif_html_add(out, "</tbody></table></div>\n<h2>Sizes and lengths</h2>\n");
    bif_html_addf(out, "<p class=\"soft\">Bins grow by the root of 2.%s</p><div class=\"grid\">", s->stages > 1 ? " Grey: all samples, coloured: what is left." : "");
    for (int i = 0; i < BIF_MEASURES; i++) {
        put_histogram(bif_stat_measure_names[i].label, s->measure[0][i].bins, last[i].bins, out);
    }
    bif_html_add(out, "</div>\n<div class=\"scroll\"><table><thead><tr><th>of what is left</th><th>min</th><th>5 %</th><th>median</th><th>95 %</th><th>max</th>"
                      "</tr></thead><tbody>\n");
    for (int i = 0; i < BIF_MEASURES; i++) {
        const bif_quantiles *q = &last[i];
        if (q->count > 0) {
            bif_html_addf(out, "<tr><td>%s</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td>%" PRId64 "</td></tr>\n",
                          bif_stat_measure_names[i].label, q->min, q->p5, q->median, q->p95, q->max);
        }
    }
    bif_html_add(out, "</tbody></table></div>\n<h2>What there is</h2>\n<div class=\"tables\">");
    put_classes(s, "samples by source", &s->sources, true, out);
    put_classes(s, "texts by language (a guess)", &s->languages, true, out);
    put_classes(s, "texts by script", &s->scripts, true, out);
    put_classes(s, "images by format", &s->formats, false, out);
    put_classes(s, "images by how often they occur", &s->same_images, false, out);
    put_classes(s, "texts by how often they occur", &s->same_texts, false, out);
    bif_html_add(out, "</div>\n");
    if (s->concepts > 0 || s->clusters != NULL || s->vendi != NULL) {
        bif_html_add(out, "<h2>Diversity</h2>\n");
    }
    if (s->concepts > 0) {
        char *title = bif_format("concepts (of %" PRId64 ")", s->concepts);
        put_spread(s, title, &s->concept[0].spread, sizeof *s->concept, out);
        bif_html_add(out, "<div class=\"grid\">");
        put_histogram("concepts by their matches", s->concept[0].bins, s->concept[s->stages - 1].bins, out);
        bif_html_add(out, "</div>\n");
        put_classes(s, "matches of the commonest", &s->top_concepts, false, out);
        free(title);
    }
    if (s->clusters != NULL) {
        put_spread(s, "clusters of images", s->clusters, sizeof *s->clusters, out);
    }
    if (s->vendi != NULL) {
        put_head_row(s, "", out);
        bif_html_add(out, "<tr><td>Vendi score of the images</td>");
        for (int64_t k = 0; k < s->stages; k++) {
            bif_html_addf(out, "<td>%.6g</td>", s->vendi[k]);
        }
        bif_html_add(out, "</tr></tbody></table></div>\n");
    }
}

/* ---- samples ---- */

typedef struct {
    uint64_t rank; /* drawn; the smallest are shown */
    const bif_drop *drop;
    int64_t step, reason;
} example;

typedef struct {
    uint64_t sample;
    bif_text_buffer html;
} shown;

static int by_rank(const void *a, const void *b)
{
    const example *x = a, *y = b;
    return x->rank != y->rank ? (x->rank > y->rank) - (x->rank < y->rank) : (x->drop->sample > y->drop->sample) - (x->drop->sample < y->drop->sample);
}

/* The examples of a step's reason, drawn by number; *list has room for page->examples. */
static int64_t draw_examples(const bif_data_page *page, int64_t step, int64_t reason, example *list)
{
    const bif_selection_step s = bif_selection_get(page->selection, step);
    int64_t count = 0, worst = 0;
    for (int64_t i = 0; i < s.count && s.reason_records[reason] > 0; i++) {
        if (s.records[i].reason != reason) {
            continue;
        }
        uint32_t word[4];
        bif_philox(0, BIF_RNG_SHOWN, s.records[i].sample, 0, word);
        const example e = {(uint64_t)word[0] << 32 | word[1], &s.records[i], step, reason};
        if (count < page->examples) {
            list[count++] = e;
        } else if (count > 0 && by_rank(&e, &list[worst]) < 0) {
            list[worst] = e;
        } else {
            continue;
        }
        for (int64_t k = 0; k < count; k++) {
            worst = worst >= count || by_rank(&list[k], &list[worst]) > 0 ? k : worst;
        }
    }
    if (count > 0) {
        qsort(list, (size_t)count, sizeof *list, by_rank);
    }
    return count;
}

static bif_status put_picture(const bif_shard *shard, int64_t image, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    bif_shard_image info = {0};
    void *bytes = NULL;
    char *name = bif_format("image %" PRId64 " of %s", image, bif_path_base(bif_shard_path(shard)));
    BIF_TRY(bif_shard_get_image(shard, image, &info));
    if (info.size > PICTURE_BYTES) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s has %" PRIu64 " bytes", name, info.size));
    }
    bytes = bif_malloc(info.size + 1);
    BIF_TRY(bif_shard_read_image(shard, image, bytes, info.size));
    BIF_TRY(bif_html_picture(out, name, bytes, info.size, THUMBNAIL));
done:
    if (st == BIF_ERR_DATA) {
        bif_html_add(out, "<p class=\"none\">");
        bif_html_words(out, bif_error_message());
        bif_html_add(out, "</p>");
        bif_error_clear();
        st = BIF_OK;
    }
    free(bytes);
    free(name);
    return st;
}

static bif_status render(const bif_shard *shard, int64_t local, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    bif_shard_sample sample = {0};
    char *caption = NULL;
    size_t size = 0;
    BIF_TRY(bif_shard_get_sample(shard, local, &sample));
    if (sample.image_count > 0) {
        BIF_TRY(put_picture(shard, (int64_t)sample.images[0], out));
    }
    bif_sample_caption(&sample, &caption, &size);
    bif_html_add(out, "<figcaption><span class=\"text\" dir=\"auto\">");
    bif_html_text(out, (bif_span){caption != NULL ? caption : "(no text)", caption != NULL ? size : 9}, CAPTION_BYTES);
    bif_html_add(out, "</span><span class=\"meta\">");
    bif_html_text(out, (bif_span){sample.id, sample.id_size}, 100);
    bif_html_addf(out, "%s", sample.id_size > 0 ? " \xC2\xB7 " : "");
    bif_html_words(out, bif_path_base(bif_shard_path(shard)));
    bif_html_addf(out, ":%" PRId64 "%s</span></figcaption>", local, sample.image_count > 1 ? " (first of its pictures)" : "");
done:
    free(caption);
    return st;
}

static int by_sample(const void *a, const void *b)
{
    const uint64_t x = ((const shown *)a)->sample, y = ((const shown *)b)->sample;
    return (x > y) - (x < y);
}

/* Every sample once, shard by shard. */
static bif_status render_all(const bif_data_page *page, shown *list, int64_t count)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    int64_t open = -1;
    for (int64_t i = 0; i < count && st == BIF_OK; i++) {
        const int64_t sample = (int64_t)list[i].sample, which = bif_pool_shard_of_sample(page->pool, sample);
        if (which != open) {
            bif_shard_close(shard);
            shard = NULL;
            open = which;
            st = bif_pool_shard(page->pool, which, &shard);
        }
        st = st == BIF_OK ? render(shard, sample - page->pool->first_sample[which], &list[i].html) : st;
    }
    bif_shard_close(shard);
    return st;
}

static void put_shown(const shown *list, int64_t count, uint64_t sample, bif_text_buffer *out)
{
    const shown *found = bsearch(&(shown){.sample = sample}, list, (size_t)count, sizeof *list, by_sample);
    bif_html_add(out, "<figure>");
    bif_text_add(out, found->html.text, found->html.size);
    bif_html_add(out, "</figure>");
}

static void put_step(const bif_data_page *page, int64_t number, const example *list, int64_t count, const shown *samples, int64_t sample_count,
                     bif_text_buffer *out)
{
    const bif_selection_step step = bif_selection_get(page->selection, number);
    char *parameters = json_dumps(step.parameters, JSON_INDENT(1));
    bif_html_addf(out, "<h2>Step %" PRId64 ": ", number + 1);
    bif_html_words(out, step.verb);
    bif_html_addf(out, "</h2>\n<p>%" PRId64 " samples before, %" PRId64 " after%s</p>\n<details><summary>parameters</summary><pre>", step.before, step.after,
                  step.after > step.before ? " (repeats counted)" : "");
    bif_html_words(out, parameters != NULL ? parameters : "");
    bif_html_add(out, "</pre></details>\n");
    free(parameters);
    for (int64_t r = 0, i = 0; r < step.reasons; r++) {
        bif_html_add(out, "<h3>");
        bif_html_words(out, step.reason[r]);
        bif_html_addf(out, " <span class=\"soft\">%" PRId64 "</span></h3>\n<div class=\"pairs\">\n", step.reason_records[r]);
        for (; i < count && list[i].reason == r; i++) {
            const bif_drop *d = list[i].drop;
            bif_html_addf(out, "<div class=\"pair%s\">", d->other == BIF_NO_SAMPLE ? " one" : "");
            put_shown(samples, sample_count, d->sample, out);
            if (d->other != BIF_NO_SAMPLE) {
                put_shown(samples, sample_count, d->other, out);
            }
            if (d->times > 0) {
                bif_html_addf(out, "<footer>kept %d times, value %.6g</footer></div>\n", d->times, (double)d->value);
            } else {
                bif_html_addf(out, "<footer>%s, value %.6g</footer></div>\n",
                              d->other == BIF_NO_SAMPLE ? "dropped" : "left: dropped, right: on whose account", (double)d->value);
            }
        }
        bif_html_add(out, "</div>\n");
    }
}

static bif_status put_steps(const bif_data_page *page, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    const int64_t steps = bif_selection_steps(page->selection);
    example *list = NULL;
    shown *samples = NULL;
    int64_t *first = bif_calloc((size_t)steps + 1, sizeof *first), count = 0, sample_count = 0;
    for (int64_t k = 0; k < steps; k++) {
        const int64_t reasons = bif_selection_get(page->selection, k).reasons;
        for (int64_t r = 0; r < reasons; r++) {
            list = bif_realloc(list, (size_t)(count + page->examples) + 1, sizeof *list);
            count += draw_examples(page, k, r, list + count);
        }
        first[k + 1] = count;
    }
    samples = bif_calloc(2 * (size_t)count + 1, sizeof *samples);
    for (int64_t i = 0; i < count; i++) {
        samples[sample_count++].sample = list[i].drop->sample;
        if (list[i].drop->other != BIF_NO_SAMPLE) {
            samples[sample_count++].sample = list[i].drop->other;
        }
    }
    if (sample_count > 0) {
        qsort(samples, (size_t)sample_count, sizeof *samples, by_sample);
    }
    int64_t distinct = 0;
    for (int64_t i = 0; i < sample_count; i++) {
        if (i == 0 || samples[i].sample != samples[distinct - 1].sample) {
            samples[distinct++] = samples[i];
        }
    }
    BIF_TRY(render_all(page, samples, distinct));
    for (int64_t k = 0; k < steps; k++) {
        put_step(page, k, list + first[k], first[k + 1] - first[k], samples, distinct, out);
    }
done:
    for (int64_t i = 0; samples != NULL && i < distinct; i++) {
        bif_text_free(&samples[i].html);
    }
    free(samples);
    free(list);
    free(first);
    return st;
}

bif_status bif_data_page_write(const bif_data_page *page, const char *path)
{
    bif_status st = BIF_OK;
    const bif_data_stats *s = page->stats;
    bif_text_buffer out = {0};
    bif_html_add(&out, bif_html_head);
    bif_html_addf(&out, "<title>Data: %" PRId64 " samples</title>\n<style>\n", s->count[0][BIF_STAT_SAMPLES]);
    bif_html_add(&out, bif_html_style);
    bif_html_addf(&out, "</style>\n</head>\n<body><main>\n<h1>%" PRId64 " samples in %" PRId64 " shards</h1>\n", s->count[0][BIF_STAT_SAMPLES], s->shards);
    put_numbers(s, &out);
    if (page->selection != NULL) {
        BIF_TRY(put_steps(page, &out));
    }
    bif_html_add(&out, "</main></body></html>\n");
    BIF_TRY(bif_file_write(path, out.text, out.size));
done:
    bif_text_free(&out);
    return st;
}
