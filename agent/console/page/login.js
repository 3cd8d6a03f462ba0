// The way in: name and password; says why not, and how long to wait after too many tries.
import { h, put } from './dom.js';
import { field } from './dialogs.js';
import { t } from './i18n.js';
import { logIn, session } from './session.js';

export function login(done) {
  const user = h('input', { type: 'text', required: true, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', 'data-test': 'login-user' });
  const password = h('input', { type: 'password', required: true, autocomplete: 'current-password', 'data-test': 'login-password' });
  const error = h('p', { class: 'form-error', role: 'alert', 'data-test': 'login-error' });
  const button = h('button', { class: 'primary', 'data-test': 'login-submit' }, () => t('login'));
  let waiting = null;

  function wait(seconds) {
    clearInterval(waiting);
    const end = Date.now() + seconds * 1000;
    const left = () => Math.max(0, Math.ceil((end - Date.now()) / 1000));
    const say = () => {
      button.disabled = left() > 0;
      put(error, left() > 0 ? t('error.slow', { n: left() }) : null);
      if (left() === 0) clearInterval(waiting);
    };
    waiting = setInterval(say, 1000);
    say();
  }

  const node = h('form', {
    class: 'login panel', onsubmit: async (event) => {
      event.preventDefault();
      put(error);
      button.disabled = true;
      try {
        await logIn(user.value.trim(), password.value);
        password.value = '';
        done();
      } catch (problem) {
        button.disabled = false;
        if (problem.status === 429) wait(problem.retryAfter);
        else {
          put(error, problem.status === 401 ? () => t('login.wrong') : problem.message);
          password.select();
        }
      }
    },
  }, h('h1', null, 'inspectd'), h('p', { class: 'note' }, () => t('login.note')),
  field(() => t('login.user'), user), field(() => t('login.password'), password), error, button);

  return {
    node: h('div', { class: 'login-room' }, node),
    show() {
      if (session.user) done();
      else user.focus();
    },
    close: () => clearInterval(waiting),
  };
}
