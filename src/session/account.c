#include "session/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct account *account_new(const struct protocol *protocol) {
	struct account *account = calloc(1, sizeof *account);
	if (!account)
		return NULL;
	static _Atomic uint64_t serials;
	account->protocol = protocol;
	account->serial = atomic_fetch_add(&serials, 1) + 1;
	pthread_mutex_init(&account->shared.mutex, NULL);
	return account;
}

void account_free(struct account *account) {
	if (!account)
		return;
	if (account->shared.credential)
		account->protocol->credential_unref(account->shared.credential);
	if (account->shared.welcome)
		account->protocol->welcome_unref(account->shared.welcome);
	pthread_mutex_destroy(&account->shared.mutex);
	free(account);
}

struct account *account_of(struct pool_user *user) {
	return pool_user_context(user);
}

static void *account_swap(struct account *account, void **slot, void *value) {
	pthread_mutex_lock(&account->shared.mutex);
	void *before = *slot;
	*slot = value;
	pthread_mutex_unlock(&account->shared.mutex);
	return before;
}

static void *account_share(struct account *account, void **slot, void *(*ref)(void *)) {
	pthread_mutex_lock(&account->shared.mutex);
	void *value = *slot ? ref(*slot) : NULL;
	pthread_mutex_unlock(&account->shared.mutex);
	return value;
}

void account_set_credential(struct account *account, void *credential) {
	void *before = account_swap(account, &account->shared.credential, credential);
	if (before)
		account->protocol->credential_unref(before);
}

void *account_credential(struct account *account, void *(*ref)(void *)) {
	return account_share(account, &account->shared.credential, ref);
}

void account_set_welcome(struct account *account, void *welcome) {
	void *before = account_swap(account, &account->shared.welcome, welcome);
	if (before)
		account->protocol->welcome_unref(before);
}

void *account_welcome(struct account *account, void *(*ref)(void *)) {
	return account_share(account, &account->shared.welcome, ref);
}

void account_set_error(struct account *account, const char *sqlstate, const char *text) {
	pthread_mutex_lock(&account->shared.mutex);
	snprintf(account->shared.last_sqlstate, sizeof account->shared.last_sqlstate, "%s", sqlstate ? sqlstate : "");
	snprintf(account->shared.last_error, sizeof account->shared.last_error, "%s", text ? text : "");
	pthread_mutex_unlock(&account->shared.mutex);
}

void account_get_error(struct account *account, char sqlstate[6], char *text, size_t room) {
	pthread_mutex_lock(&account->shared.mutex);
	memcpy(sqlstate, account->shared.last_sqlstate, 6);
	snprintf(text, room, "%s", account->shared.last_error);
	pthread_mutex_unlock(&account->shared.mutex);
}
