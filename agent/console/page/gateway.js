// One gateway of the fleet and its cameras, kept up to date in place.
import { send, isWaiting } from './commands.js';
import { confirm, field, form } from './dialogs.js';
import { h, put, refresh, unique } from './dom.js';
import { age, dateTime, duration, number } from './format.js';
import { t, word } from './i18n.js';
import { spinner } from './list.js';
import { sign } from './marks.js';
import { busy } from './notices.js';
import { image } from './picture.js';
import { isEngineer } from './session.js';

export const isWell = ({ state }) => state === 'streaming';
export const inTrouble = (gateway) => !gateway.online || gateway.reason || gateway.missing_events > 0
  || gateway.cameras.some((camera) => !isWell(camera)) || gateway.outbox?.dropped > 0;
// What a camera is doing, as far as can be known: nothing is known while its gateway is away.
export const stateOf = (gateway, camera) => (gateway.online ? camera.state : 'unreachable');
const UNSURE = new Set(['opening', 'reconnecting', 'unreachable']);
export const cameraSign = (state) => (isWell({ state }) ? 'good' : UNSURE.has(state) ? 'wait' : 'bad');

const stat = (key, value, bad = () => false, title = null) => h('div', { class: () => `stat${bad() ? ' stat-bad' : ''}`, title },
  h('dt', null, () => t(`gateway.${key}`)), h('dd', null, value));

function learning({ anomaly }) {
  if (!anomaly || anomaly.state === 'off') return t('anomaly.off');
  if (anomaly.state === 'calibrated') return t('anomaly.calibrated');
  return Number.isFinite(anomaly.missing) ? t('anomaly.learning.left', { n: number(anomaly.missing) }) : t('anomaly.learning');
}

// A menu of what engineers may do.
function menu(label, entries, hook) {
  const node = h('details', { class: 'menu', hidden: () => !isEngineer(), 'data-test': hook },
    h('summary', null, label),
    h('div', { class: 'menu-entries' }, entries.map(([key, work]) => h('button', {
      type: 'button', 'data-test': `do-${key}`, onclick: () => {
        node.open = false;
        work();
      },
    }, () => t(`do.${key}`)))));
  node.addEventListener('focusout', (event) => { if (!node.contains(event.relatedTarget)) node.open = false; });
  return node;
}

// A command that is confirmed, with more to say about it where `fields` asks for it.
function ask(where, command, payload, { fields = [], more = () => ({}), danger = false } = {}) {
  form(() => t(`do.${command}.title`, { what: payload.camera ?? where.gateway }), fields,
    () => send(where.site, where.gateway, command, { ...payload, ...more() }),
    { action: () => word('command', command), note: () => t(`do.${command}.note`), danger, hook: 'confirm' });
}

function askSilence(where, camera, command) {
  const className = h('input', { type: 'text', 'data-test': 'silence-class', spellcheck: 'false', autocomplete: 'off' });
  const comment = h('input', { type: 'text', maxlength: 1000 });
  ask(where, command, { camera }, {
    fields: [field(() => t('filter.class'), className, () => t('silence.class.hint')), field(() => t('comment.optional'), comment)],
    more: () => ({
      ...(className.value.trim() ? { class: className.value.trim() } : {}), ...(comment.value.trim() ? { comment: comment.value.trim() } : {}),
    }),
  });
}

function askChangeover(where, camera) {
  const product = h('input', { type: 'text', required: true, maxlength: 64, 'data-test': 'changeover-product', autocomplete: 'off' });
  ask(where, 'changeover', { camera }, { fields: [field(() => t('product'), product)], more: () => ({ product: product.value.trim() }) });
}

function cameraTile(where, get) {
  const name = get().camera;
  const command = (key) => h('button', {
    type: 'button', class: 'small', 'data-test': `camera-${key}`, disabled: () => !where().online,
    'aria-label': () => `${word('command', key)}: ${name}`,
    onclick: busy(() => send(where().site, where().gateway, key, { camera: name })),
  }, h('span', { class: 'waits', hidden: () => !isWaiting(where().site, where().gateway, key, name) }, spinner()), () => word('command', key));
  const at = where();
  const now = () => stateOf(where(), get());
  const shot = h('div', { class: 'shot', title: () => (get().image_at ? dateTime(get().image_at) : null) });
  const node = h('article', { class: () => `camera camera-${cameraSign(now())}`, 'data-test': 'camera-tile', 'data-camera': name },
    shot,
    h('div', { class: 'camera-words' },
      h('h4', null, name),
      h('p', { class: 'camera-state', title: () => dateTime(get().since) }, sign(() => cameraSign(now())),
        h('strong', null, () => word('camera', now())), h('span', { class: 'kind' }, () => age(get().since))),
      h('p', { class: 'camera-reason', hidden: () => !get().reason && !get().faults?.length },
        () => get().reason || (get().faults ?? []).map((fault) => word('camera', fault)).join(', ')),
      h('p', { class: 'kind' }, () => t('camera.rate', { fps: number(get().fps, 1), n: number(get().captured) })),
      h('p', { class: 'kind', hidden: () => !get().dropped && !get().no_verdict },
        () => t('camera.lost', { dropped: number(get().dropped), unsure: number(get().no_verdict) })),
      h('p', { class: 'kind' }, () => learning(get()))),
    h('div', { class: 'camera-tools' }, command('trigger'), command('snapshot'),
      menu(() => t('more.short'), [
        ['changeover', () => askChangeover(at, name)],
        ['relearn', () => ask(at, 'relearn', { camera: name }, { danger: true })],
        ['suppress', () => askSilence(at, name, 'suppress')], ['unsuppress', () => askSilence(at, name, 'unsuppress')],
        ['out_of_service', () => askSilence(at, name, 'out_of_service')], ['in_service', () => askSilence(at, name, 'in_service')],
      ], 'camera-menu')));
  let drawn;
  return {
    node,
    update() {
      const sha256 = get().image;
      if (drawn === sha256) return;
      drawn = sha256;
      put(shot, sha256 ? image(sha256, '', (missing) => shot.classList.toggle('missing', missing), true) : null);
    },
  };
}

export class GatewayRow {
  #gateway;
  #tiles = new Map();
  #cameras = h('div', { class: 'cameras', id: unique('cameras') });
  #summary = h('span', { class: 'camera-summary' });
  #expand;

  constructor(gateway, open) {
    this.#gateway = gateway;
    const now = () => this.#gateway;
    const { site, gateway: name } = gateway;
    this.#expand = h('button', {
      type: 'button', class: 'expand', 'aria-expanded': String(open), 'aria-controls': this.#cameras.id, 'data-test': 'gateway-expand',
      onclick: () => this.expand(this.#expand.getAttribute('aria-expanded') !== 'true'),
    }, h('span', { class: 'arrow', 'aria-hidden': 'true' }, '▸'), h('span', { class: 'gateway-name' }, h('span', { class: 'site' }, `${site} / `), name));
    this.node = h('section', {
      class: () => `gateway${now().online ? '' : ' offline'}`, 'data-test': 'gateway-row', 'data-id': `${site}/${name}`, 'data-online': () => String(now().online),
    },
    h('header', null,
      h('h3', null, this.#expand),
      h('span', { class: 'online', title: () => dateTime(now().seen_at) }, sign(() => (now().online ? 'good' : 'bad')),
        h('strong', null, () => t(now().online ? 'online' : 'offline')),
        h('span', { class: 'kind' }, () => (now().online ? t('up', { time: duration(now().uptime_s) }) : t('ago', { time: age(now().seen_at) })))),
      h('p', { class: 'gateway-reason', hidden: () => !now().reason }, () => now().reason),
      this.#summary,
      h('dl', { class: 'stats' },
        stat('agent', () => now().agent),
        stat('bundle', () => (now().bundle ? `${now().bundle.name} ${now().bundle.version}` : '–')),
        stat('temperature', () => (Number.isFinite(now().system?.temperature_c) ? `${number(now().system.temperature_c)} °C` : '–'), () => now().system?.temperature_c >= 85),
        stat('load', () => (now().system ? `${number(now().system.load[0], 1)} / ${now().system.cores}` : '–'), () => now().system && now().system.load[0] > 1.5 * now().system.cores),
        stat('queue', () => number(now().outbox?.queued), () => now().outbox?.queued > 1000),
        stat('lost', () => number((now().outbox?.dropped ?? 0) + (now().outbox?.dead ?? 0)), () => (now().outbox?.dropped ?? 0) + (now().outbox?.dead ?? 0) > 0),
        stat('missing', () => number(now().missing_events), () => now().missing_events > 0),
        stat('disk', () => (now().system ? `${number(now().system.disk_free_mib / 1024, 1)} GiB` : '–'), () => now().system && now().system.disk_free_mib < 1024)),
      menu(() => t('more.short'), [
        ['reload', () => confirm(() => t('do.reload.title', { what: name }), () => t('do.reload.note'), () => word('command', 'reload'), () => send(site, name, 'reload', {}))],
      ], 'gateway-menu')),
    this.#cameras);
    this.expand(open);
  }

  get gateway() { return this.#gateway; }

  expand(open) {
    this.#expand.setAttribute('aria-expanded', String(open));
    this.#cameras.hidden = !open;
    this.update(this.#gateway);
  }

  update(gateway) {
    this.#gateway = gateway;
    const cameras = new Map(gateway.cameras.map((camera) => [camera.camera, camera]));
    const byState = new Map();
    for (const camera of gateway.cameras) {
      const state = stateOf(gateway, camera);
      byState.set(state, (byState.get(state) ?? 0) + 1);
    }
    put(this.#summary, [...byState].map(([state, n]) => h('span', { class: 'camera-count' }, sign(cameraSign(state)), `${n} `, () => word('camera', state))));
    if (!this.#cameras.hidden && (this.#tiles.size !== cameras.size || [...cameras.keys()].some((name) => !this.#tiles.has(name)))) {
      this.#tiles = new Map(gateway.cameras.map(({ camera }) => [camera, cameraTile(() => this.#gateway,
        () => this.#gateway.cameras.find((each) => each.camera === camera) ?? cameras.get(camera))]));
      put(this.#cameras, [...this.#tiles.values()].map(({ node }) => node));
    }
    if (!this.#cameras.hidden) for (const tile of this.#tiles.values()) tile.update();
    refresh(this.node);
  }
}

