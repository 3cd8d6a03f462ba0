// Puts the page together: who is logged in sees the views, anybody else the way in; then the address decides.
import { alarms } from './alarms.js';
import { unauthorized } from './api.js';
import { fleetView } from './fleet.js';
import { history } from './history.js';
import { listen } from './keys.js';
import { login } from './login.js';
import { models } from './models.js';
import { placeholder } from './notices.js';
import { start } from './plant.js';
import { report } from './report.js';
import * as router from './router.js';
import { brokerIs, forget, keepAsking, session, sessionChanged, whoAmI } from './session.js';
import { settings } from './settings.js';
import { build, update } from './shell.js';
import * as stream from './stream.js';

const RETRY_MS = 3000;
const OUTSIDE = 'login';
let wanted = '#/alarms';

router.define(OUTSIDE, () => login(() => router.go(wanted)));
router.define('alarms', alarms);
router.define('history', history);
router.define('fleet', fleetView);
router.define('models', models);
router.define('report', report);
router.define('settings', settings);
router.onChange(update);

function route() {
  const { name } = router.parse();
  if (!session.user && name !== OUTSIDE) {
    if (location.hash) wanted = location.hash;
    location.replace(`#/${OUTSIDE}`);
    return;
  }
  router.show();
}

let inside = false;

sessionChanged.on(() => {
  if (Boolean(session.user) === inside) return;
  inside = Boolean(session.user);
  if (inside) {
    stream.open();
    start();
  } else {
    stream.close();
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    route();
  }
});
unauthorized.on(() => session.user && forget());
stream.stream.broker.on(brokerIs);
addEventListener('hashchange', route);
addEventListener('online', stream.doubt);
keepAsking(stream.doubt);

async function begin() {
  try {
    await whoAmI();
  } catch (error) {
    if (error.status !== 401) {
      placeholder(router.main, () => error.message, 'error');
      setTimeout(begin, RETRY_MS);
      return;
    }
  }
  route();
}

build();
listen();
begin();
