// SPDX-License-Identifier: Apache-2.0
// Budgets, policies of keys, teams, contract prices, pricing anew and alerts: the operations on a
// real store, without a registry as direct mode runs them, and with one.
#include "admin/admin.h"
#include "admin/contracts.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/secret.h"
#include "domain/catalogue.h"
#include "domain/route.h"
#include "store/price_store.h"
#include "store/usage_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static const char catalogue_text[] =
    "{\"schema\":\"chaperone.prices/1\",\"source\":\"test\",\"date\":\"2026-01-02\",\"models\":{"
    "\"gpt-4o\":{\"input_cost_per_token\":\"0.0000025\",\"output_cost_per_token\":\"0.00001\"},"
    "\"old\":{\"input_cost_per_token\":\"0.000001\",\"output_cost_per_token\":\"0.000001\"}}}";

// The registry's way to tell of a threshold, kept from ch_registry_on_alert by the linker's --wrap.
static struct {
    ch_budget_alert_fn tell;
    void *arg;
} told;

void __wrap_ch_registry_on_alert(struct ch_registry *registry, ch_budget_alert_fn on_alert,
                                 void *arg);
void __wrap_ch_registry_on_alert(struct ch_registry *registry, ch_budget_alert_fn on_alert,
                                 void *arg)
{
    (void)registry;
    told.tell = on_alert;
    told.arg = arg;
}

struct fixture {
    char dir[64], path[96];
    struct ch_catalogue *catalogue;
    struct ch_admin admin;
};
static struct fixture fixture;

static int set_up(void **state)
{
    unsigned char key[CH_VAULT_MASTER_KEY] = {9};
    struct ch_secret *master_key;
    struct ch_why why = {""};
    (void)state;
    ch_log_set_level(CH_LOG_ERROR);
    fixture = (struct fixture){.dir = "/tmp/ch_test_policies_XXXXXX"};
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/chaperone.db", fixture.dir);
    if (ch_secret_new(key, sizeof key, &master_key) ||
        ch_store_open(fixture.path, master_key, true, &fixture.admin.store, &why) ||
        ch_catalogue_load(CH_SPAN(catalogue_text), &fixture.catalogue, &why)) {
        print_error("%s\n", why.text);
        return -1;
    }
    ch_secret_free(master_key);
    fixture.admin.base_catalogue = fixture.catalogue;
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    ch_registry_free(fixture.admin.registry);
    ch_store_close(fixture.admin.store);
    ch_catalogue_free(fixture.catalogue);
    snprintf(command, sizeof command, "rm -rf %s", fixture.dir);
    return system(command);
}

static void be_a_daemon(void)
{
    struct ch_catalogue *catalogue;
    struct ch_why why;
    assert_int_equal(ch_catalogue_load(CH_SPAN(catalogue_text), &catalogue, &why), CH_OK);
    assert_int_equal(
        ch_registry_new(ch_store_pepper(fixture.admin.store), catalogue, &fixture.admin.registry),
        CH_OK);
    assert_int_equal(ch_registry_load(fixture.admin.registry, fixture.admin.store, &why), CH_OK);
}

// Single quotes stand for double ones in arguments.
static json_t *parse(const char *arguments)
{
    char text[1024];
    assert_true(ch_span_copy(ch_span_of(arguments), text, sizeof text));
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *json = json_loads(text, 0, NULL);
    if (!json)
        fail_msg("not JSON: %s", text);
    return json;
}

static json_t *call(const char *operation, const char *arguments)
{
    struct ch_why why = {""};
    json_t *result = NULL, *json = parse(arguments);
    if (ch_admin_call(&fixture.admin, operation, json, &result, &why))
        fail_msg("%s %s: %s", operation, arguments, why.text);
    json_decref(json);
    return result;
}

static void ok(const char *operation, const char *arguments)
{
    json_decref(call(operation, arguments));
}

static void refused(const char *operation, const char *arguments, enum ch_err err, const char *says)
{
    struct ch_why why = {""};
    json_t *result = NULL, *json = parse(arguments);
    enum ch_err got = ch_admin_call(&fixture.admin, operation, json, &result, &why);
    json_decref(json);
    if (got != err || !strstr(why.text, says))
        fail_msg("%s %s: %s: \"%s\" does not say \"%s\"", operation, arguments, ch_err_name(got),
                 why.text, says);
}

// A member by its path: "items.0.cap_usd".
static const json_t *member(const json_t *json, const char *path)
{
    while (json && *path) {
        char name[64];
        size_t len = strcspn(path, ".");
        assert_true(ch_span_copy((struct ch_span){path, len}, name, sizeof name));
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(name))
                                   : json_object_get(json, name);
        path += len + (path[len] == '.');
    }
    return json;
}

static void has_text(const json_t *json, const char *path, const char *expected)
{
    const char *text = json_string_value(member(json, path));
    if (!text || strcmp(text, expected) != 0)
        fail_msg("%s is %s, not %s", path, text ? text : "no text", expected);
}

static void has_int(const json_t *json, const char *path, int64_t expected)
{
    const json_t *value = member(json, path);
    if (!json_is_integer(value) || json_integer_value(value) != expected)
        fail_msg("%s is %lld, not %lld", path, (long long)json_integer_value(value),
                 (long long)expected);
}

#define PROVIDER "{'name':'p','type':'openai','credential':'sk-secret-0123456789abcdef'}"

// ---- budgets

static void budgets_are_checked(void **state)
{
    static const struct {
        const char *arguments, *says;
        enum ch_err err;
    } cases[] = {
        {"{'budget':'1/day'}", "SCOPE is missing", CH_ERR_INVALID},
        {"{'scope':'keys:web','budget':'1/day'}", "SCOPE is one of", CH_ERR_INVALID},
        {"{'scope':'key:','budget':'1/day'}", "SCOPE is one of", CH_ERR_INVALID},
        {"{'scope':'key','budget':'1/day'}", "SCOPE is one of", CH_ERR_INVALID},
        {"{'scope':'key:a b','budget':'1/day'}", "SCOPE is one of", CH_ERR_INVALID},
        {"{'scope':'all:x','budget':'1/day'}", "SCOPE is one of", CH_ERR_INVALID},
        {"{'scope':'all'}", "--budget is missing", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1'}", "AMOUNT/PERIOD", CH_ERR_INVALID},
        {"{'scope':'all','budget':'-1/day'}", "AMOUNT/PERIOD", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/year'}", "AMOUNT/PERIOD", CH_ERR_INVALID},
        {"{'scope':'all','budget':'0.0000000001/day'}", "AMOUNT/PERIOD", CH_ERR_INVALID},
        {"{'scope':'all','budget':'99999999999/day'}", "more money", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','mode':'hard'}", "strict, learned", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','tz':'Mars/Olympus'}", "--tz", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','tz':'../UTC'}", "--tz", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','alert':'0'}", "--alert", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','alert':'1,2,3,4,5,6,7,8,9'}", "--alert", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','on_exhausted':'stop'}", "finish", CH_ERR_INVALID},
        {"{'scope':'all','budget':'1/day','shadow':'yes'}", "true or false", CH_ERR_INVALID},
        {"{'scope':'key:nobody','budget':'1/day'}", "nobody", CH_ERR_NOT_FOUND},
        {"{'scope':'provider:nobody','budget':'1/day'}", "nobody", CH_ERR_NOT_FOUND},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused("budget.set", cases[i].arguments, cases[i].err, cases[i].says);
    json_t *list = call("budget.list", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 0);
    json_decref(list);
}

static void an_edit_of_a_budget_keeps_what_is_not_said(void **state)
{
    (void)state;
    json_t *made = call("budget.set", "{'scope':'team:search','budget':'50/week'}");
    has_text(made, "schema", "chaperone.budget/1");
    has_text(made, "mode", "learned");
    has_text(made, "time_zone", "UTC");
    has_int(made, "alerts.0", 80);
    has_text(made, "on_exhausted", "finish");
    assert_true(json_is_false(member(made, "shadow")));
    json_decref(made);
    ok("budget.set", "{'scope':'team:search','budget':'60/week','mode':'strict','tz':'Asia/Kolkata'"
                     ",'alert':'100, 50','on_exhausted':'cut','shadow':true}");
    made = call("budget.set", "{'scope':'team:search','budget':'0.5/week'}");
    has_int(made, "cap_nano_usd", 500000000);
    has_text(made, "cap_usd", "0.500000000");
    has_text(made, "mode", "strict");
    has_text(made, "time_zone", "Asia/Kolkata");
    has_int(made, "alerts.0", 50);
    has_int(made, "alerts.1", 100);
    has_text(made, "on_exhausted", "cut");
    assert_true(json_is_true(member(made, "shadow")));
    json_decref(made);
    made =
        call("budget.set", "{'scope':'team:search','budget':'0/week','shadow':false,'alert':''}");
    assert_true(json_is_false(member(made, "shadow")));
    assert_int_equal(json_array_size(member(made, "alerts")), 0);
    has_int(made, "percent", 100);
    json_decref(made);
}

static void budgets_are_listed_by_scope(void **state)
{
    static const struct {
        const char *arguments;
        size_t count;
    } cases[] = {
        {"{}", 5},
        {"{'scope':'team'}", 3},
        {"{'scope':'team:a'}", 2},
        {"{'scope':'project'}", 0},
        {"{'scope':'all'}", 1},
        {"{'scope':'provider:p'}", 1},
        {"{'limit':2}", 2},
    };
    (void)state;
    ok("provider.create", PROVIDER);
    ok("budget.set", "{'scope':'team:a','budget':'1/day'}");
    ok("budget.set", "{'scope':'team:a','budget':'1/total'}");
    ok("budget.set", "{'scope':'team:b','budget':'1/day'}");
    ok("budget.set", "{'scope':'all','budget':'1/day'}");
    ok("budget.set", "{'scope':'provider:p','budget':'1/day'}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *list = call("budget.list", cases[i].arguments);
        assert_int_equal(json_array_size(member(list, "items")), cases[i].count);
        assert_int_equal(json_is_true(member(list, "truncated")), cases[i].count == 2 && i == 6);
        json_decref(list);
    }
    json_t *shown = call("budget.show", "{'scope':'team:a'}");
    has_text(shown, "items.0.period", "day");
    has_text(shown, "items.1.period", "total");
    assert_true(json_is_null(member(shown, "items.1.resets_at")));
    json_decref(shown);
    refused("budget.list", "{'scope':'teams'}", CH_ERR_INVALID, "SCOPE");
    refused("budget.show", "{'scope':'team:nobody'}", CH_ERR_NOT_FOUND,
            "team:nobody has no budget");
    refused("budget.delete", "{'scope':'team:a','period':'week'}", CH_ERR_NOT_FOUND, "team a");
    refused("budget.delete", "{'scope':'team:a','period':'year'}", CH_ERR_INVALID, "day, week");
    ok("budget.delete", "{'scope':'team:a','period':'day'}");
    refused("budget.delete", "{'scope':'team:a','period':'day'}", CH_ERR_NOT_FOUND, "team a");
}

static bool is_in_force(int64_t id)
{
    struct ch_budget_view view;
    return ch_registry_look_budget(fixture.admin.registry, id, &view);
}

// What the registry has: the ids that the store gives begin with 1.
static void budgets_come_and_go_in_the_registry(void **state)
{
    struct ch_budget_view view;
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    ok("budget.set", "{'scope':'provider:p','budget':'1/day'}");
    ok("budget.set", "{'scope':'all','budget':'2/day'}");
    assert_true(is_in_force(1) && is_in_force(2));
    ok("budget.set", "{'scope':'all','budget':'3/day','mode':'strict'}");
    assert_true(ch_registry_look_budget(fixture.admin.registry, 2, &view));
    assert_int_equal(view.terms.cap_nano_usd, INT64_C(3000000000));
    assert_int_equal(view.terms.mode, CH_BUDGET_STRICT);
    ok("budget.delete", "{'scope':'all','period':'day'}");
    assert_false(is_in_force(2));
    ok("provider.delete", "{'name':'p'}");
    assert_false(is_in_force(1));
}

// ---- keys

static void options_of_keys_are_checked(void **state)
{
    static const struct {
        const char *option, *says;
    } cases[] = {
        {"'deny_models':'a b'", "--deny-models"},
        {"'deny_models':''", "--deny-models is empty"},
        {"'map':['a']", "--map"},
        {"'map':['a=a']", "--map"},
        {"'map':['a=b','a=c']", "--map"},
        {"'map':[7]", "--map must be text"},
        {"'allow_cidr':['10.0.0.1/8']", "--allow-cidr"},
        {"'allow_cidr':['10.0.0.0/8','nonsense']", "--allow-cidr"},
        {"'rpm':-1", "--rpm"},
        {"'rpm':1.5", "--rpm"},
        {"'tpm':'many'", "--tpm"},
        {"'concurrency':2000000000000", "--concurrency"},
        {"'unknown_model':'allow'", "deny, flag or ceiling"},
        {"'unknown_model':'ceiling'", "deny, flag or ceiling"},
        {"'unknown_model':'ceiling:1'", "deny, flag or ceiling"},
        {"'unknown_model':'ceiling:1/x'", "deny, flag or ceiling"},
        {"'on_client_abort':'wait'", "cancel or drain"},
        {"'budget_status':'500'", "402 403 429"},
        {"'budget_status':'402,429'", "one of 402"},
        {"'shadow':'all'", "models limits"},
        {"'label':'a\\u0007b'", "--label"},
        {"'budget':['1']", "--budget takes"},
        {"'budget':'1/day'", "--budget takes"},
        {"'budget':['1/day','2/day']", "two for one day"},
        {"'budget_mode':'strict'", "needs a --budget"},
        {"'budget':['1/day'],'budget_mode':'hard'", "strict, learned"},
    };
    (void)state;
    ok("provider.create", PROVIDER);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments, "{'name':'k','provider':['p'],%s}", cases[i].option);
        refused("key.create", arguments, CH_ERR_INVALID, cases[i].says);
    }
    refused("key.show", "{'name':'k'}", CH_ERR_NOT_FOUND, "k");
}

static void a_key_is_made_with_its_policies(void **state)
{
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    ok("key.create",
       "{'name':'k','provider':['p'],'models':'gpt-*','deny_models':'gpt-4, o1*','map':['gpt-x=gpt-"
       "4o',' gpt-y = gpt-4o "
       "'],'rpm':60,'tpm':'','concurrency':4,'allow_cidr':['192.0.2.7','10.0.0."
       "0/8'],'label':'for CI','unknown_model':'ceiling:15/0.25','on_client_abort':'drain',"
       "'budget_status':'402','shadow':'limits','budget':['100/day','0.5/total'],'budget_mode':"
       "'strict'}");
    json_t *key = call("key.show", "{'name':'k'}");
    has_text(key, "deny_models", "gpt-4,o1*");
    has_text(key, "model_map", "gpt-x=gpt-4o,gpt-y=gpt-4o");
    has_int(key, "rpm", 60);
    assert_true(json_is_null(member(key, "tpm")));
    has_int(key, "concurrency", 4);
    has_text(key, "allow_cidrs", "192.0.2.7,10.0.0.0/8");
    has_text(key, "label", "for CI");
    has_text(key, "unknown_model", "ceiling:15/0.25");
    has_text(key, "on_client_abort", "drain");
    has_int(key, "budget_status", 402);
    has_text(key, "shadow", "limits");
    has_text(key, "budgets.0.scope", "key:k");
    has_text(key, "budgets.0.mode", "strict");
    has_int(key, "budgets.1.cap_nano_usd", 500000000);
    assert_int_equal(json_array_size(member(key, "budgets")), 2);
    json_decref(key);
    assert_true(is_in_force(1) && is_in_force(2));
    // Each budget has a row of its own in the audit log.
    json_t *log = call("audit.list", "{'object':'budget:key:k'}");
    assert_int_equal(json_array_size(member(log, "items")), 2);
    has_text(log, "items.0.action", "key.create");
    json_decref(log);
}

static void a_key_without_its_budgets_is_not_made(void **state)
{
    (void)state;
    ok("provider.create", PROVIDER);
    refused("key.create", "{'name':'k','provider':['nope'],'budget':['1/day']}", CH_ERR_NOT_FOUND,
            "nope");
    json_t *list = call("budget.list", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 0);
    json_decref(list);
}

static void an_update_keeps_and_clears(void **state)
{
    (void)state;
    ok("provider.create", PROVIDER);
    ok("provider.create", "{'name':'q','type':'openai','credential':'sk-secret-0123456789abcdef'}");
    ok("key.create", "{'name':'k','provider':['p'],'models':'a','deny_models':'b','rpm':5,'tpm':6,"
                     "'team':'t','tag':{'x':'1'},'expires':'90d','label':'l','shadow':'models',"
                     "'unknown_model':'deny','allow_cidr':['10.0.0.0/8'],'budget':['1/day']}");
    refused("key.update", "{'name':'k'}", CH_ERR_INVALID, "nothing to change");
    refused("key.update", "{'name':'k','reason':'r'}", CH_ERR_INVALID, "nothing to change");
    refused("key.update", "{'name':'k','provider':[]}", CH_ERR_INVALID, "--provider");
    refused("key.update", "{'name':'k','models':' , '}", CH_ERR_INVALID, "--models");
    refused("key.update", "{'name':'nobody','rpm':1}", CH_ERR_NOT_FOUND, "nobody");
    refused("key.update", "{'name':'k','expires':'2020-01-01'}", CH_ERR_INVALID, "past");

    json_t *key = call("key.update", "{'name':'k','rpm':7,'budget':['2/day'],'reason':'r'}");
    has_int(key, "rpm", 7);
    has_int(key, "tpm", 6);
    has_text(key, "models", "a");
    has_text(key, "team", "t");
    has_text(key, "shadow", "models");
    has_int(key, "budgets.0.cap_nano_usd", 2000000000);
    json_decref(key);
    key = call("key.update",
               "{'name':'k','models':'','deny_models':'','rpm':'','tpm':0,'team':'','tag':{},"
               "'expires':'','label':'','shadow':'','unknown_model':'','allow_cidr':[''],"
               "'budget_status':'','on_client_abort':'','provider':['q','p']}");
    has_text(key, "models", "");
    has_text(key, "deny_models", "");
    assert_true(json_is_null(member(key, "rpm")) && json_is_null(member(key, "tpm")));
    has_text(key, "team", "");
    assert_int_equal(json_object_size(member(key, "tags")), 0);
    assert_true(json_is_null(member(key, "expires_at")));
    has_text(key, "label", "");
    has_text(key, "shadow", "");
    has_text(key, "unknown_model", "");
    has_text(key, "allow_cidrs", "");
    has_text(key, "providers.0", "q");
    has_int(key, "budgets.0.cap_nano_usd", 2000000000);
    json_decref(key);
    ok("key.revoke", "{'name':'k'}");
    refused("key.update", "{'name':'k','rpm':1}", CH_ERR_CONFLICT, "revoked");
    refused("key.rotate", "{'name':'k'}", CH_ERR_CONFLICT, "revoked");
}

static void expect_verdict(const char *token, bool is_valid, bool is_previous)
{
    char arguments[256];
    snprintf(arguments, sizeof arguments, "{'token':'%s'}", token);
    json_t *verdict = call("key.verify", arguments);
    assert_int_equal(json_is_true(member(verdict, "valid")), is_valid);
    assert_int_equal(json_is_true(member(verdict, "is_previous_secret")), is_previous);
    json_decref(verdict);
}

static void a_rotation_gives_a_new_secret(void **state)
{
    char first[128], second[128];
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    json_t *made = call("key.create", "{'name':'k','provider':['p']}");
    snprintf(first, sizeof first, "%s", json_string_value(member(made, "key")));
    json_decref(made);
    refused("key.rotate", "{'name':'k','grace':'2 days'}", CH_ERR_INVALID, "--grace");
    refused("key.rotate", "{'name':'k','grace':'2020-01-01'}", CH_ERR_INVALID, "past");
    refused("key.rotate", "{'name':'k','grace':'500d'}", CH_ERR_INVALID, "366 days");
    expect_verdict(first, true, false);
    made = call("key.rotate", "{'name':'k','grace':'1h'}");
    snprintf(second, sizeof second, "%s", json_string_value(member(made, "key")));
    assert_non_null(json_string_value(member(made, "previous_secret_until")));
    json_decref(made);
    assert_string_not_equal(first, second);
    expect_verdict(first, true, true);
    expect_verdict(second, true, false);
    made = call("key.rotate", "{'name':'k'}");
    assert_true(json_is_null(member(made, "previous_secret_until")));
    json_decref(made);
    expect_verdict(first, false, false);
    expect_verdict(second, false, false);
    json_t *key = call("key.show", "{'name':'k'}");
    assert_null(json_object_get(key, "key"));
    json_decref(key);
}

static void explains_with_and_without_a_daemon(void **state)
{
    (void)state;
    ok("provider.create", PROVIDER);
    ok("key.create", "{'name':'k','provider':['p'],'deny_models':'old','map':['alias=gpt-4o']}");
    for (int i = 0; i < 2; i++) {
        json_t *json = call("key.explain", "{'name':'k','model':'alias','input_tokens':1000,"
                                           "'output_tokens':100}");
        has_text(json, "schema", "chaperone.key_explanation/1");
        assert_true(json_is_true(member(json, "allowed")));
        has_text(json, "model_sent", "gpt-4o");
        has_text(json, "provider", "p");
        has_text(json, "rule", "");
        assert_true(json_array_size(member(json, "items")) >= 3);
        json_decref(json);
        json = call("key.explain", "{'name':'k','model':'old'}");
        assert_true(json_is_false(member(json, "allowed")));
        has_text(json, "rule", "model");
        has_text(json, "code", "model_not_allowed");
        json_decref(json);
        refused("key.explain", "{'name':'k'}", CH_ERR_INVALID, "--model");
        refused("key.explain", "{'name':'k','model':'a b'}", CH_ERR_INVALID, "--model");
        refused("key.explain", "{'name':'nobody','model':'a'}", CH_ERR_NOT_FOUND, "nobody");
        if (i == 0)
            be_a_daemon();
    }
}

// ---- providers, teams, projects

static void providers_say_what_unknown_models_do(void **state)
{
    (void)state;
    ok("provider.create", "{'name':'p','type':'openai','credential':'sk-secret-0123456789abcdef',"
                          "'unknown_model':'ceiling:15/75'}");
    json_t *row = call("provider.show", "{'name':'p'}");
    has_text(row, "unknown_model", "ceiling:15/75");
    json_decref(row);
    row = call("provider.update", "{'name':'p','unknown_model':'deny'}");
    has_text(row, "unknown_model", "deny");
    json_decref(row);
    row = call("provider.update", "{'name':'p','unknown_model':''}");
    has_text(row, "unknown_model", "");
    json_decref(row);
    refused("provider.update", "{'name':'p'}", CH_ERR_INVALID, "nothing to change");
    refused("provider.update", "{'name':'p','unknown_model':'x'}", CH_ERR_INVALID, "deny, flag");
    refused("provider.update", "{'name':'q','unknown_model':'deny'}", CH_ERR_NOT_FOUND, "q");
}

static void teams_follow_from_what_names_them(void **state)
{
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    ok("key.create", "{'name':'k1','provider':['p'],'team':'b','project':'x'}");
    ok("key.create", "{'name':'k2','provider':['p'],'team':'b'}");
    ok("budget.set", "{'scope':'team:a','budget':'10/month'}");
    ok("team.set", "{'name':'c','rpm':60,'shadow':true}");
    json_t *list = call("team.list", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 3);
    has_text(list, "items.0.name", "a");
    has_int(list, "items.0.keys", 0);
    has_int(list, "items.0.budgets.0.cap_nano_usd", 10000000000);
    has_text(list, "items.1.name", "b");
    has_int(list, "items.1.keys", 2);
    has_int(list, "items.1.spent_this_month_nano_usd", 0);
    has_int(list, "items.2.rpm", 60);
    assert_true(json_is_true(member(list, "items.2.shadow")));
    json_decref(list);
    json_t *team = call("team.show", "{'name':'b'}");
    has_text(team, "key_names.1", "k2");
    json_decref(team);
    json_t *project = call("project.show", "{'name':'x'}");
    has_int(project, "keys", 1);
    assert_null(member(project, "rpm"));
    json_decref(project);
    list = call("project.list", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 1);
    json_decref(list);
    refused("team.show", "{'name':'nobody'}", CH_ERR_NOT_FOUND, "nobody");
    refused("project.show", "{'name':'b'}", CH_ERR_NOT_FOUND, "project b");
}

static void limits_of_teams_are_set_and_cleared(void **state)
{
    (void)state;
    be_a_daemon();
    refused("team.set", "{'name':'t'}", CH_ERR_INVALID, "nothing to set");
    refused("team.set", "{'name':'t','rpm':-5}", CH_ERR_INVALID, "--rpm");
    ok("team.set", "{'name':'t','rpm':60,'tpm':1000}");
    json_t *team = call("team.set", "{'name':'t','concurrency':3,'rpm':0}");
    assert_true(json_is_null(member(team, "rpm")));
    has_int(team, "tpm", 1000);
    has_int(team, "concurrency", 3);
    json_decref(team);
    team = call("team.set", "{'name':'t','tpm':'','concurrency':''}");
    assert_true(json_is_null(member(team, "tpm")));
    json_decref(team);
    refused("team.show", "{'name':'t'}", CH_ERR_NOT_FOUND, "t");
}

// ---- prices

static void contract_prices_are_checked(void **state)
{
    static const struct {
        const char *arguments, *says;
        enum ch_err err;
    } cases[] = {
        {"{'model':'gpt-4o'}", "there is no price", CH_ERR_INVALID},
        {"{'input':'1'}", "missing", CH_ERR_INVALID},
        {"{'model':'a b','input':'1'}", "no name of a model", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'two'}", "USD for a million", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'-1'}", "USD for a million", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'0.12345678'}", "seven decimals", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'0.0000025'}", "Prices are for a million", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'20000'}", "USD for a million", CH_ERR_INVALID},
        {"{'model':'gpt-4o','price':{'no_such_key':'1'}}", "no_such_key", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'1','price':{'input_cost_per_token':'1'}}",
         "an option for that", CH_ERR_INVALID},
        {"{'model':'gpt-4o','input':'1','provider':'nobody'}", "nobody", CH_ERR_NOT_FOUND},
        {"{'model':'gpt-4o','input':'1','from':'soon'}", "--from", CH_ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused("price.set", cases[i].arguments, cases[i].err, cases[i].says);
    json_t *list = call("price.list", "{'overrides':true}");
    assert_int_equal(json_array_size(member(list, "items")), 0);
    json_decref(list);
}

// What a million tokens of input of gpt-4o cost at provider `id` now, by the catalogue in force.
static int64_t input_price(int64_t provider_id)
{
    struct ch_usage usage = {.tokens = {[CH_TOKENS_INPUT] = 1000000}, .stated_cost_nano = -1};
    const struct ch_price_query query = {
        .prefix = CH_SPAN(""), .provider_id = provider_id, .at_ms = ch_clock_wall_ms() + 1};
    return ch_price_cost(ch_catalogue_find_for(ch_registry_catalogue(fixture.admin.registry),
                                               &query, CH_SPAN("gpt-4o"), &usage),
                         &usage)
        .nano_usd;
}

static void contract_prices_are_in_force_at_once(void **state)
{
    struct ch_catalogue *again;
    struct ch_why why;
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    assert_int_equal(input_price(1), 2500000000);
    json_t *set = call("price.set", "{'model':'gpt-4o','provider':'p','input':'2','from':'1d'}");
    has_text(set, "input_cost_per_token", "0.000002");
    assert_string_equal(json_string_value(member(set, "catalogue")),
                        ch_catalogue_version(ch_registry_catalogue(fixture.admin.registry)));
    assert_non_null(strstr(json_string_value(member(set, "catalogue")), "+o"));
    json_decref(set);
    assert_int_equal(input_price(1), 2000000000);
    assert_int_equal(input_price(2), 2500000000);
    json_t *shown = call("price.show", "{'model':'gpt-4o','provider':'p'}");
    has_text(shown, "input_cost_per_token", "0.000002");
    has_text(shown, "output_cost_per_token", "0.00001");
    has_text(shown, "contract_provider", "p");
    json_decref(shown);
    shown = call("price.show", "{'model':'gpt-4o'}");
    has_text(shown, "input_cost_per_token", "0.0000025");
    json_decref(shown);

    ok("price.set", "{'model':'gpt-4o','input':'1','from':'1d'}"); // of every provider
    assert_int_equal(input_price(1), 2000000000);
    assert_int_equal(input_price(2), 1000000000);
    refused("price.list", "{'overrides':true,'pattern':'x'}", CH_ERR_INVALID, "pattern");
    json_t *list = call("price.list", "{'overrides':true}");
    has_text(list, "schema", "chaperone.price_overrides/1");
    has_text(list, "items.1.provider", "p");
    json_decref(list);
    // A start has the same catalogue.
    assert_int_equal(ch_contracts_apply(fixture.admin.store, fixture.catalogue, &again, &why),
                     CH_OK);
    assert_string_equal(ch_catalogue_version(again),
                        ch_catalogue_version(ch_registry_catalogue(fixture.admin.registry)));
    ch_catalogue_free(again);

    refused("price.unset", "{'model':'old'}", CH_ERR_NOT_FOUND, "old");
    refused("price.unset", "{'model':'gpt-4o','from':'2020-01-01'}", CH_ERR_NOT_FOUND, "gpt-4o");
    json_t *unset = call("price.unset", "{'model':'gpt-4o'}");
    has_int(unset, "removed", 1);
    json_decref(unset);
    assert_int_equal(input_price(1), 2000000000);
    assert_int_equal(input_price(2), 2500000000);
    ok("price.unset", "{'model':'gpt-4o','provider':'p'}");
    assert_int_equal(input_price(1), 2500000000);
}

static void nothing_is_applied_where_there_never_was_a_contract(void **state)
{
    struct ch_catalogue *catalogue;
    struct ch_why why;
    (void)state;
    assert_int_equal(ch_contracts_apply(fixture.admin.store, fixture.catalogue, &catalogue, &why),
                     CH_OK);
    assert_null(catalogue);
}

#define LIST(date, price)                                                                          \
    "{'document':'{\\\"schema\\\":\\\"chaperone.prices/"                                           \
    "1\\\",\\\"source\\\":\\\"t\\\",\\\"date\\\":"                                                 \
    "\\\"" date "\\\",\\\"models\\\":{\\\"gpt-4o\\\":{\\\"input_cost_per_token\\\":\\\"" price     \
    "\\\",\\\"output_cost_per_token\\\":\\\"0.00001\\\"}}}'"

static void an_import_that_looks_wrong_takes_a_word(void **state)
{
    (void)state;
    be_a_daemon();
    ok("price.set", "{'model':'gpt-4o','output':'5','from':'1d'}");
    refused("price.import", LIST("2026-02-02", "0.0001") "}", CH_ERR_DENIED, "--force");
    assert_int_equal(input_price(1), 2500000000);
    json_t *dry = call("price.import", LIST("2026-02-02", "0.0001") ",'dry_run':true}");
    has_int(dry, "jumps", 1);
    assert_true(*json_string_value(member(dry, "suspicion")) != '\0');
    has_text(dry, "items.0.price", "input_cost_per_token");
    has_text(dry, "items.0.to", "0.0001");
    has_text(dry, "items.1.change", "removed");
    json_decref(dry);
    assert_int_equal(input_price(1), 2500000000);
    json_t *forced = call("price.import", LIST("2026-02-02", "0.0001") ",'force':true}");
    json_decref(forced);
    assert_int_equal(input_price(1), 100000000000);
    // The contract lies over the new list too.
    json_t *shown = call("price.show", "{'model':'gpt-4o'}");
    has_text(shown, "output_cost_per_token", "0.000005");
    json_decref(shown);
    json_t *fair = call("price.import", LIST("2026-03-03", "0.00009") "}");
    has_text(fair, "suspicion", "");
    json_decref(fair);
    assert_int_equal(input_price(1), 90000000000);
}

// ---- usage

struct journal {
    struct ch_usage_journal *journal;
    char path[128];
};

static void start_usage(struct journal *journal)
{
    struct ch_why why;
    snprintf(journal->path, sizeof journal->path, "%s/journal", fixture.dir);
    assert_int_equal(ch_usage_journal_open(journal->path, 1, 64 << 10, 16, &journal->journal, &why),
                     CH_OK);
    assert_int_equal(ch_usage_writer_start(fixture.admin.store, journal->journal, &why), CH_OK);
}

static void stop_usage(struct journal *journal)
{
    ch_usage_writer_stop(fixture.admin.store);
    ch_usage_journal_close(journal->journal);
}

// An exchange of a million tokens of input.
static struct ch_usage_record exchange(int64_t ago_ms, const char *model)
{
    static int64_t serial;
    struct ch_usage_record record = {
        .started_at_ms = ch_clock_wall_ms() - ago_ms,
        .key_id = 1,
        .attribution_id = 1,
        .provider_id = 1,
        .endpoint = CH_ENDPOINT_CHAT_COMPLETIONS,
        .grade = CH_GRADE_EXACT,
        .end_reason = CH_END_DONE,
        .is_priced = true,
        .status = 200,
        .usage = {.tokens = {[CH_TOKENS_INPUT] = 1000000}, .stated_cost_nano = -1},
        .cost_nano_usd = 2500000000,
        .first_byte_us = -1,
        .model_asked = ch_span_of(model),
        .model_sent = ch_span_of(model),
        .model_served = CH_SPAN(""),
        .upstream_id = CH_SPAN(""),
        .user_agent = CH_SPAN(""),
        .client_address = CH_SPAN(""),
        .rule = CH_SPAN(""),
        .catalogue = CH_SPAN("2026-01-02-00000000"),
    };
    record.id = ch_id_floor(record.started_at_ms) + ++serial;
    return record;
}

static void append(struct journal *journal, const struct ch_usage_record *record)
{
    assert_int_equal(ch_usage_journal_append(journal->journal, 0, record), CH_OK);
}

#define HOUR INT64_C(3600000)

static void append_exchanges(struct journal *journal)
{
    struct ch_usage_record plain = exchange(2 * HOUR, "gpt-4o"), late = exchange(HOUR, "gpt-4o"),
                           unpriced = exchange(HOUR, "new-model"),
                           stated = exchange(HOUR, "gpt-4o"), denied = exchange(HOUR, "gpt-4o"),
                           watched = exchange(HOUR, "gpt-4o"), sided = exchange(HOUR, "gpt-4o");
    append(journal, &plain);
    append(journal, &late);
    unpriced.is_priced = false;
    unpriced.cost_nano_usd = 0;
    append(journal, &unpriced);
    stated.usage.stated_cost_nano = stated.cost_nano_usd = 77;
    append(journal, &stated);
    denied.end_reason = CH_END_DENIED;
    denied.grade = CH_GRADE_NONE;
    denied.status = 429;
    denied.cost_nano_usd = 0;
    denied.rule = CH_SPAN("budget_exceeded");
    memset(denied.usage.tokens, 0, sizeof denied.usage.tokens);
    append(journal, &denied);
    watched.rule = CH_SPAN("shadow:rate_limit_exceeded");
    append(journal, &watched);
    sided.side_cost_nano_usd = 1000;
    sided.cost_nano_usd += 1000;
    append(journal, &sided);
}

static size_t count_of(const char *arguments)
{
    json_t *list = call("usage.list", arguments);
    size_t count = json_array_size(member(list, "items"));
    json_decref(list);
    return count;
}

static void refusals_are_listed(void **state)
{
    struct journal journal;
    (void)state;
    start_usage(&journal);
    append_exchanges(&journal);
    assert_int_equal(count_of("{}"), 7);
    assert_int_equal(count_of("{'denied':true}"), 1);
    assert_int_equal(count_of("{'shadow':true}"), 1);
    assert_int_equal(count_of("{'denied':true,'shadow':true}"), 2);
    json_t *list = call("usage.list", "{'denied':true}");
    has_text(list, "items.0.rule", "budget_exceeded");
    has_int(list, "items.0.status", 429);
    json_decref(list);
    stop_usage(&journal);
}

// The cost of the rows of a model, in the order of ids.
static void costs_are(const char *model, const int64_t *expected, size_t count)
{
    char arguments[128];
    snprintf(arguments, sizeof arguments, "{'model':'%s','after':'req_00000000001'}", model);
    json_t *list = call("usage.list", arguments);
    assert_int_equal(json_array_size(member(list, "items")), count);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(member(list, "items"), i);
        has_int(item, "cost_nano_usd", expected[i]);
    }
    json_decref(list);
}

static void rows_are_priced_anew(void **state)
{
    static const int64_t before[] = {2500000000, 2500000000, 77, 0, 2500000000, 2500001000},
                         after[] = {2500000000, 2000000000, 77, 0, 2000000000, 2000001000};
    struct journal journal;
    (void)state;
    be_a_daemon();
    ok("provider.create", PROVIDER);
    start_usage(&journal);
    append_exchanges(&journal);
    refused("usage.reprice", "{}", CH_ERR_INVALID, "--from");
    refused("usage.reprice", "{'from':'1h','to':'2h'}", CH_ERR_INVALID, "before");
    ok("price.set", "{'model':'gpt-4o','provider':'p','input':'2','from':'90m'}");
    ok("price.set", "{'model':'new-model','input':'3','output':'4','from':'1d'}");

    json_t *dry = call("usage.reprice", "{'from':'1d','dry_run':true}");
    has_int(dry, "rows", 5); // without the refused one and the one with a stated cost
    has_int(dry, "corrected", 4);
    has_int(dry, "difference_nano_usd", 3 * -500000000 + 3000000000);
    json_decref(dry);
    costs_are("gpt-4o", before, 6);

    json_t *one = call("usage.reprice", "{'from':'1d','model':'new-model'}");
    has_int(one, "rows", 1);
    has_int(one, "corrected", 1);
    has_text(one, "difference_usd", "3.000000000");
    json_decref(one);
    costs_are("gpt-4o", before, 6);
    json_t *all = call("usage.reprice", "{'from':'1d'}");
    has_int(all, "corrected", 3);
    has_int(all, "difference_nano_usd", -1500000000);
    json_decref(all);
    costs_are("gpt-4o", after, 6);
    json_t *again = call("usage.reprice", "{'from':'1d'}");
    has_int(again, "corrected", 0);
    json_decref(again);

    json_t *sum = call("usage.summary", "{'by':'provider'}");
    has_int(sum, "total.cost_nano_usd",
            2500000000 + 2 * INT64_C(2000000000) + 2000001000 + 77 + 3000000000);
    has_int(sum, "total.unpriced_requests", 0);
    json_decref(sum);
    json_t *unpriced = call("price.unpriced", "{}");
    assert_int_equal(json_array_size(member(unpriced, "items")), 0);
    json_decref(unpriced);
    json_t *list = call("usage.list", "{'model':'new-model'}");
    assert_true(json_is_true(member(list, "items.0.is_corrected")));
    assert_non_null(strstr(json_string_value(member(list, "items.0.catalogue")), "+o"));
    json_decref(list);
    stop_usage(&journal);
}

static void spend_shows_in_budgets_without_a_daemon(void **state)
{
    struct journal journal;
    (void)state;
    ok("provider.create", PROVIDER);
    ok("key.create", "{'name':'k','provider':['p'],'team':'t'}");
    ok("budget.set", "{'scope':'key:k','budget':'20/total'}");
    start_usage(&journal);
    append_exchanges(&journal);
    json_t *shown = call("budget.show", "{'scope':'key:k'}");
    has_int(shown, "items.0.spent_nano_usd", 4 * INT64_C(2500000000) + 77 + 1000);
    has_int(shown, "items.0.percent", 50);
    json_decref(shown);
    stop_usage(&journal);
}

// ---- alerts

static struct ch_alerts *make_alerts(void)
{
    struct ch_alerts *alerts;
    struct ch_why why;
    be_a_daemon();
    assert_int_equal(ch_alerts_new(fixture.admin.registry, fixture.admin.store, &alerts, &why),
                     CH_OK);
    return alerts;
}

static void tell(int64_t budget_id, unsigned percent)
{
    told.tell(told.arg, &(struct ch_budget_event){.budget_id = budget_id,
                                                  .period_start_ms = 0,
                                                  .at_ms = 1700000000000,
                                                  .spent_nano_usd = 8000000000,
                                                  .cap_nano_usd = 10000000000,
                                                  .percent = percent});
}

static bool is_waiting(const struct ch_alerts *alerts)
{
    struct pollfd fd = {.fd = ch_alerts_fd(alerts), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void thresholds_are_recorded_once(void **state)
{
    (void)state;
    struct ch_alerts *alerts = make_alerts();
    ok("budget.set", "{'scope':'team:t','budget':'10/day'}");
    assert_false(is_waiting(alerts));
    tell(1, 80);
    tell(1, 80); // as after a restart
    tell(1, 100);
    tell(99, 80); // deleted meanwhile
    assert_true(is_waiting(alerts));
    ch_alerts_drain(alerts);
    assert_false(is_waiting(alerts));
    json_t *list = call("budget.alerts", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 2);
    has_text(list, "schema", "chaperone.budget_alerts/1");
    has_text(list, "items.0.scope", "team:t");
    has_text(list, "items.0.period", "day");
    has_int(list, "items.0.percent", 100);
    has_int(list, "items.1.percent", 80);
    has_text(list, "items.1.spent_usd", "8.000000000");
    json_decref(list);
    list = call("budget.alerts", "{'limit':1}");
    assert_int_equal(json_array_size(member(list, "items")), 1);
    json_decref(list);
    ch_alerts_free(alerts);
}

static void what_waits_at_the_end_is_recorded(void **state)
{
    (void)state;
    struct ch_alerts *alerts = make_alerts();
    ok("budget.set", "{'scope':'all','budget':'10/day'}");
    tell(1, 80);
    ch_alerts_free(alerts);
    json_t *list = call("budget.alerts", "{}");
    assert_int_equal(json_array_size(member(list, "items")), 1);
    has_text(list, "items.0.scope", "all");
    json_decref(list);
}

static void too_many_events_are_counted_not_waited_for(void **state)
{
    (void)state;
    struct ch_alerts *alerts = make_alerts();
    ok("budget.set", "{'scope':'all','budget':'10/day'}");
    for (unsigned i = 0; i < 2000; i++)
        tell(1, i % 200 + 1);
    ch_alerts_drain(alerts);
    tell(1, 201); // there is room again
    ch_alerts_drain(alerts);
    json_t *list = call("budget.alerts", "{'limit':1000}");
    assert_int_equal(json_array_size(member(list, "items")), 201);
    json_decref(list);
    ch_alerts_free(alerts);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(budgets_are_checked),
        TEST(an_edit_of_a_budget_keeps_what_is_not_said),
        TEST(budgets_are_listed_by_scope),
        TEST(budgets_come_and_go_in_the_registry),
        TEST(options_of_keys_are_checked),
        TEST(a_key_is_made_with_its_policies),
        TEST(a_key_without_its_budgets_is_not_made),
        TEST(an_update_keeps_and_clears),
        TEST(a_rotation_gives_a_new_secret),
        TEST(explains_with_and_without_a_daemon),
        TEST(providers_say_what_unknown_models_do),
        TEST(teams_follow_from_what_names_them),
        TEST(limits_of_teams_are_set_and_cleared),
        TEST(contract_prices_are_checked),
        TEST(contract_prices_are_in_force_at_once),
        TEST(nothing_is_applied_where_there_never_was_a_contract),
        TEST(an_import_that_looks_wrong_takes_a_word),
        TEST(refusals_are_listed),
        TEST(rows_are_priced_anew),
        TEST(spend_shows_in_budgets_without_a_daemon),
        TEST(thresholds_are_recorded_once),
        TEST(what_waits_at_the_end_is_recorded),
        TEST(too_many_events_are_counted_not_waited_for),
    };
    struct ch_why why;
    if (ch_secret_process_init(&why) || ch_store_process_init(&why))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
