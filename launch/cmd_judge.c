/* bifocal judge-requests TASK ANSWERS --references FILE --rules FILE --out FILE */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/judge.h"
#include "launch/commands.h"
#include "launch/options.h"

static void help(void)
{
    puts("usage: bifocal judge-requests TASK ANSWERS --references FILE --rules FILE --out FILE [options]\n\n"
         "Writes what a language model is to be asked about a model's answers, as JSON lines of custom_id, messages, temperature\n"
         "and max_tokens for any service; nothing is sent. Its replies, as JSON lines of question_id and content, or of custom_id\n"
         "and response as batch services return them, are scored by bifocal score. TASK: llava-bench, k-llava-w or mm-vet. ANSWERS: as bifocal score reads predictions.\n\n"
         "  --references FILE         the benchmark's questions (repeatable)\n"
         "  --rules FILE              llava-bench, k-llava-w: JSON of llava_bench_CATEGORY: {role, prompt} (rule.json of LLaVA,\n"
         "                            rule_ko.json); mm-vet: a text file, the prompt with its examples\n"
         "  --context FILE            llava-bench: JSONL of image and caption, where the questions have none (context.jsonl)\n"
         "  --reference-answers FILE  llava-bench: JSONL of question_id and text, where the questions have no gpt_answer\n"
         "                            (answers_gpt4.jsonl)\n"
         "  --system TEXT             message of the system\n"
         "  --allow-unknown           leave out answers to questions that the references do not have\n"
         "  --skip-missing            leave out questions without an answer\n"
         "  --out FILE                where the requests go");
}

static bif_status run(const char *name, const bif_judge_files *files)
{
    const bif_score_task *const tasks[] = {&bif_task_llava_bench, &bif_task_k_llava_w, &bif_task_mm_vet};
    bif_status st = BIF_OK;
    int64_t count = 0;
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        if (strcmp(name, tasks[i]->name) == 0) {
            BIF_TRY(bif_judge_requests(tasks[i], files, &count));
            printf("%s: %lld requests\n", files->out, (long long)count);
            goto done;
        }
    }
    st = bif_fail(BIF_ERR_USAGE, "judge-requests: '%s' is none of llava-bench, k-llava-w, mm-vet", name);
done:
    return st;
}

bif_status bif_cmd_judge_requests(int argc, char **argv)
{
    enum { OPT_REFERENCES = 256, OPT_RULES, OPT_CONTEXT, OPT_REFERENCE_ANSWERS, OPT_SYSTEM, OPT_UNKNOWN, OPT_SKIP, OPT_OUT };
    static const struct option options[] = {{"references", required_argument, NULL, OPT_REFERENCES},
                                            {"rules", required_argument, NULL, OPT_RULES},
                                            {"context", required_argument, NULL, OPT_CONTEXT},
                                            {"reference-answers", required_argument, NULL, OPT_REFERENCE_ANSWERS},
                                            {"system", required_argument, NULL, OPT_SYSTEM},
                                            {"allow-unknown", no_argument, NULL, OPT_UNKNOWN},
                                            {"skip-missing", no_argument, NULL, OPT_SKIP},
                                            {"out", required_argument, NULL, OPT_OUT},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    const char **references = bif_calloc((size_t)argc, sizeof *references);
    bif_judge_files files = {.references = references, .policy = {.remedy = "--skip-missing leaves them out"}};
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case OPT_REFERENCES: references[files.reference_count++] = optarg; break;
        case OPT_RULES: files.rules = optarg; break;
        case OPT_CONTEXT: files.context = optarg; break;
        case OPT_REFERENCE_ANSWERS: files.reference_answers = optarg; break;
        case OPT_SYSTEM: files.system = optarg; break;
        case OPT_UNKNOWN: files.policy.allow_unknown = true; break;
        case OPT_SKIP: files.policy.missing = BIF_MISSING_SKIP; break;
        case OPT_OUT: files.out = optarg; break;
        case 'h':
            help();
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "judge-requests: wrong option; see bifocal judge-requests --help"));
        }
    }
    if (argc - optind != 2 || files.reference_count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "judge-requests: name a task, a file of answers and --references; "
                         "see bifocal judge-requests --help"));
    }
    BIF_TRY(bif_option_need("judge-requests", "rules", files.rules));
    BIF_TRY(bif_option_need("judge-requests", "out", files.out));
    files.answers = argv[optind + 1];
    BIF_TRY(bif_option_writable("out", files.out));
    BIF_TRY(bif_option_apart("out", files.out, references, files.reference_count));
    BIF_TRY(bif_option_apart("out", files.out, (const char *[]){files.answers, files.rules, files.context, files.reference_answers}, 4));
    st = run(argv[optind], &files);
done:
    free(references);
    return st;
}
