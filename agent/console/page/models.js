// Releases of models, where they are rolled out to, and how far each gateway is with it.
import { at, get, post, remove, upload } from './api.js';
import { confirm } from './dialogs.js';
import { send, isWaiting, pendingChanged } from './commands.js';
import { h, put, refresh } from './dom.js';
import { bytes, dateTime, number } from './format.js';
import { t, word } from './i18n.js';
import { spinner } from './list.js';
import { sign } from './marks.js';
import { attempt, failed, toast } from './notices.js';
import { fetchFleet, fetchFleetSoon, fleet, fleetChanged } from './plant.js';
import { rolloutForm, rolloutRow } from './rollouts.js';
import { isEngineer } from './session.js';
import { throttled } from './signal.js';
import { stream } from './stream.js';

const IDLE = new Set(['idle', 'committed']);
const MOST = 200;

function uploader(done) {
  const input = h('input', { type: 'file', accept: '.tar,application/x-tar', class: 'sr-only', id: 'upload', 'data-test': 'upload-input', onchange: () => take(input.files[0]) });
  const bar = h('progress', { max: 1, value: 0, hidden: true, 'aria-label': () => t('upload.progress') });
  const words = h('p', { class: 'upload-words', role: 'status', 'data-test': 'upload-status' });
  const zone = h('div', { class: 'drop' }, input, h('label', { for: 'upload', class: 'button' }, () => t('upload.choose')), h('span', null, () => t('upload.drop')), bar, words);
  async function take(file) {
    if (!file) return;
    bar.hidden = false;
    bar.value = 0;
    words.classList.remove('form-error');
    put(words, () => t('upload.sending', { name: file.name, size: bytes(file.size) }));
    try {
      await upload('/releases', file, (share) => { bar.value = share; });
      put(words, () => t('upload.done', { name: file.name }));
      done();
    } catch (error) {
      words.classList.add('form-error');
      put(words, error.message);
    } finally {
      bar.hidden = true;
      input.value = '';
    }
  }
  zone.addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.classList.add('over');
  });
  zone.addEventListener('dragleave', () => zone.classList.remove('over'));
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    take(event.dataTransfer.files[0]);
  });
  return zone;
}

function releaseTable(releases, again) {
  if (!releases.length) return h('p', { class: 'placeholder' }, () => t('releases.none'));
  const head = ['name', 'version', 'counter', 'for', 'size', 'signer', 'uploaded', ''];
  return h('div', { class: 'wide-table' }, h('table', { class: 'grid' },
    h('thead', null, h('tr', null, head.map((key) => h('th', { scope: 'col' }, key && (() => t(`release.${key}`)))))),
    h('tbody', null, releases.map((release) => h('tr', { 'data-test': 'release-row', 'data-id': release.sha256 },
      h('th', { scope: 'row' }, release.name), h('td', null, release.version), h('td', null, String(release.counter)), h('td', null, release.site),
      h('td', null, () => bytes(release.bytes)), h('td', null, release.signer), h('td', null, () => dateTime(release.uploaded_at), ' · ', release.by),
      h('td', null, h('button', {
        type: 'button', class: 'quiet', 'data-test': 'release-delete', onclick: () => confirm(
          () => t('release.delete.title', { what: `${release.name} ${release.version}` }), () => t('release.delete.note'), () => t('delete'),
          async () => {
            await remove(`/releases${at(release.sha256)}`);
            again();
          }, true),
      }, () => t('delete'))))))));
}

function stateRow(gateway) {
  const { site, gateway: name, model } = gateway;
  const phase = model.phase;
  const order = (command, danger) => h('button', {
    type: 'button', class: danger ? 'small' : 'small primary', 'data-test': `model-${command}`,
    hidden: () => !isEngineer() || (command === 'approve' ? !['verified', 'staged', 'shadow'].includes(phase) : !['verified', 'staged', 'shadow', 'trial'].includes(phase)),
    onclick: () => confirm(() => t(`do.${command}.title`, { what: `${site}/${name}` }), () => t(`do.${command}.note`), () => word('command', command),
      () => send(site, name, command, {}), danger),
  }, h('span', { class: 'waits', hidden: () => !isWaiting(site, name, command) }, spinner()), () => word('command', command));
  const kind = phase === 'rolled_back' ? 'bad' : IDLE.has(phase) ? 'good' : 'wait';
  return h('tr', { 'data-test': 'model-row', 'data-id': `${site}/${name}`, 'data-phase': phase },
    h('th', { scope: 'row' }, `${site} / ${name}`),
    h('td', null, model.active ? `${model.active.name} ${model.active.version}` : '–'),
    h('td', null, model.candidate ? `${model.candidate.name} ${model.candidate.version}` : '–'),
    h('td', null, h('span', { class: 'phase' }, sign(kind), () => word('phase', phase)),
      model.reason && h('p', { class: 'camera-reason' }, model.reason)),
    h('td', { class: 'c-progress' }, IDLE.has(phase) || phase === 'rolled_back' ? '' : [h('progress', { max: 1, value: model.progress, 'aria-label': () => word('phase', phase) }),
      h('span', { class: 'kind' }, () => (model.needed ? `${number(model.received)} / ${number(model.needed)}` : ''))]),
    h('td', { class: 'c-do' }, order('approve', false), order('rollback', true)));
}

export function models() {
  let releases = [];
  let drawn = '';
  const own = h('div');
  const rolls = h('div', { class: 'rollouts' });
  const states = h('div');
  const start = rolloutForm(() => releases, async (order) => {
    await post('/rollouts', order);
    toast(() => t('rollout.begun'), 'done');
    loadRollouts();
  });
  const engineers = h('div', { class: 'columns' },
    h('section', { class: 'panel' }, h('h2', null, () => t('releases')), uploader(() => loadReleases()), own),
    h('section', { class: 'panel' }, h('h2', null, () => t('rollout.new')), start.node));
  const node = h('div', { class: 'scroll padded' }, h('h1', { class: 'sr-only' }, () => t('nav.models')),
    isEngineer() ? engineers : h('p', { class: 'note' }, () => t('models.readonly')),
    h('section', { class: 'panel' }, h('h2', null, () => t('rollouts')), rolls),
    h('section', { class: 'panel' }, h('h2', null, () => t('models.gateways')), states));

  async function loadReleases() {
    if (!isEngineer()) return;
    await attempt(async () => {
      ({ releases } = await get('/releases'));
      put(own, releaseTable(releases, loadReleases));
      start.show();
    });
  }

  async function loadRollouts() {
    try {
      const all = (await get('/rollouts')).rollouts;
      const opened = new Set([...rolls.querySelectorAll('details[open]')].map((each) => each.dataset.id));
      put(rolls, all.length ? all.map((rollout) => rolloutRow(rollout, opened.has(rollout.id), async () => {
        await post(`/rollouts${at(rollout.id)}/stop`);
        loadRollouts();
      })) : h('p', { class: 'placeholder' }, () => t('rollouts.none')));
    } catch (error) {
      failed(error);
    }
  }

  function showStates() {
    start.show();
    const known = fleet.gateways.filter(({ model }) => model);
    const busyFirst = (a, b) => Number(IDLE.has(a.model.phase)) - Number(IDLE.has(b.model.phase)) || a.site.localeCompare(b.site) || a.gateway.localeCompare(b.gateway);
    const shown = known.sort(busyFirst).slice(0, MOST);
    const now = JSON.stringify(shown.map(({ site, gateway, model }) => [site, gateway, model]));
    if (now === drawn) return;
    drawn = now;
    put(states, shown.length ? h('div', { class: 'wide-table' }, h('table', { class: 'grid' },
      h('thead', null, h('tr', null, ['gateway', 'active', 'candidate', 'phase', 'progress', ''].map((key) => h('th', { scope: 'col' }, key && (() => t(`model.${key}`)))))),
      h('tbody', null, shown.map(stateRow)))) : h('p', { class: 'placeholder' }, () => t('models.none')),
    known.length > MOST && h('p', { class: 'note' }, () => t('models.more', { n: known.length - MOST })));
  }

  const rolloutsSoon = throttled(loadRollouts, 1000);
  const offs = [
    fleetChanged.on(showStates), stream.fleet.on(fetchFleetSoon), stream.rollout.on(rolloutsSoon), stream.reset.on(rolloutsSoon),
    pendingChanged.on(() => refresh(states)),
  ];
  return {
    node,
    show() {
      showStates();
      loadReleases();
      loadRollouts();
      fetchFleet();
    },
    close: () => offs.forEach((off) => off()),
  };
}
