#include "train/evaluator.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

static void forget_best(bif_run_state *state)
{
    state->best_step = 0;
    state->best_score = 0.0;
    state->best_of[0] = '\0';
}

bif_status bif_evaluator_open(const bif_evaluator *evaluator, const bif_config *config, bif_comm *comm, const bif_live_model *model,
                              bif_run_state *state)
{
    bif_status st = BIF_OK;
    char digest[33] = "";
    if (evaluator == NULL) {
        return BIF_OK;
    }
    BIF_TRY(evaluator->open(evaluator->context, config, comm, model, digest));
    if (state->best_step > 0 && strcmp(state->best_of, digest) != 0) {
        if (bif_comm_rank(comm) == 0) {
            bif_warn("the best score so far (%g at step %lld) is of another evaluation; the next score begins anew", state->best_score,
                     (long long)state->best_step);
        }
        forget_best(state);
    }
    if (!config->evaluate.keep_best) {
        forget_best(state);
    }
    snprintf(state->best_of, sizeof state->best_of, "%s", digest);
done:
    return st;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bif_status bif_evaluator_run(const bif_evaluator *evaluator, const bif_config *config, bif_comm *comm, bif_metrics *metrics,
                             bif_run_state *state, bool *best)
{
    bif_evaluation found = {.score = NAN};
    const double start = now();
    *best = false;
    if (evaluator == NULL) {
        return BIF_OK;
    }
    bif_status st = evaluator->evaluate(evaluator->context, state->step, &found);
    if (st == BIF_ERR_DATA || st == BIF_ERR_IO) { /* the same on all ranks */
        if (bif_comm_rank(comm) == 0) {
            bif_warn("step %lld is not evaluated, training goes on: %s", (long long)state->step, bif_error_message());
        }
        bif_error_clear();
        return BIF_OK;
    }
    BIF_TRY(st);
    *best = config->evaluate.keep_best && isfinite(found.score) && (state->best_step == 0 || found.score > state->best_score);
    if (*best) {
        state->best_step = state->step;
        state->best_score = found.score;
    }
    const double seconds = now() - start;
    const char *name = json_object_iter_key(json_object_iter(found.metrics));
    bif_info("step %lld: %s %s %.2f over %lld questions in %.1f s%s", (long long)state->step, config->evaluate.task,
             name != NULL ? name : "", found.score, (long long)found.questions, seconds, *best ? ", the best so far" : "");
    json_t *record = json_pack("{s:I,s:s,s:s,s:O?,s:I,s:f}", "step", (json_int_t)state->step, "split", "eval", "task",
                               config->evaluate.task, "metrics", found.metrics, "questions", (json_int_t)found.questions,
                               "seconds", seconds);
    st = bif_comm_agree(comm, bif_metrics_write(metrics, record));
done:
    json_decref(found.metrics);
    return st;
}

bif_status bif_evaluator_write_best(const bif_config *config, const bif_run_state *state)
{
    if (state->best_step == 0) {
        return BIF_OK;
    }
    char *path = bif_path_join(config->output, "best.json"), *name = bif_format("step_%08" PRId64, state->best_step);
    json_t *value = json_pack("{s:I,s:s,s:f,s:s}", "step", (json_int_t)state->best_step, "task", config->evaluate.task, "score",
                              state->best_score, "checkpoint", name);
    BIF_BUG_IF(value == NULL, "best.json does not encode");
    const bif_status st = bif_json_save_file(path, value);
    json_decref(value);
    free(name);
    free(path);
    return st;
}
