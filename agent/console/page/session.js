// Who is logged in, what they may, and how the broker is; asks again every half minute.
import { Refusal, get, post, unauthorized } from './api.js';
import { Signal } from './signal.js';

const ASK_MS = 30000;

export const session = { user: null, role: null, version: '', broker: { connected: true, url: '', reason: null } };
export const sessionChanged = new Signal();

export const isEngineer = () => session.role === 'engineer';

export async function whoAmI() {
  const me = await get('/me');
  if (!me.user) {
    if (session.user) unauthorized.emit();
    throw new Refusal(401, '');
  }
  Object.assign(session, me);
  sessionChanged.emit(session);
}

export async function logIn(user, password) {
  await post('/login', { user, password });
  await whoAmI();
}

export async function logOut() {
  await post('/logout');
  forget();
}

export function forget() {
  Object.assign(session, { user: null, role: null });
  sessionChanged.emit(session);
}

export function brokerIs(state) {
  session.broker = { ...session.broker, ...state };
  sessionChanged.emit(session);
}

// `lost` is called where the server could not be reached, or this machine has slept: the stream may hang then.
export function keepAsking(lost) {
  let asked = Date.now();
  setInterval(async () => {
    const slept = Date.now() - asked > 3 * ASK_MS;
    asked = Date.now();
    if (!session.user) return;
    try {
      await whoAmI();
      if (slept) lost();
    } catch (error) {
      if (error.status !== 401) lost();
    }
  }, ASK_MS);
}
