"""The text of policy MDP-1: how gardien treats missing, late and implausible values.

The text describes what the code of this version does; docs/policy.md is generated from it.
"""

from __future__ import annotations

ENGLISH = """\
# MDP-1: what gardien does about missing, late and implausible values

Every batch names this policy (`"policy": "MDP-1"`). The policy applies to every slot of every
series.

1. **Nothing is overwritten.** A value is sent as the meter reported it, with the same number of
   digits. A correction is a new version of the row (`ver`); the highest version counts. A missing
   value is not zero.
2. **The index is the reference.** The consumption of a step (`INT`) is calculated from two indexes
   in consecutive slots, if `intervals: true` is set, and is marked K. A mean (`AVG`) is calculated
   if `mean:` is set and at least four fifths of the values in its step are good. It is the mean of
   the good values, and is also marked K.
3. **Every slot gives a row** (except of a state, see below): a value, or M with the reason.
   `silent`: the meter did not answer; `link`: its line was down; `agent`: gardien, or the component
   that reads or stores the value, was down; `bad`: the meter reported an invalid value, or gardien
   could not read it because of an error of its own; `early`: gardien had not yet received any
   answer of this meter; `busy`: there was not enough time to read all meters of the line, or the
   value was read after the end of its step; `shed`: dropped because the disk was full or failed;
   `clock`: the time was not known; `uplink`: the operator had removed the uplink to this recipient,
   and nothing was stored for it. A sequence of M is one row (`span`).
   A silent meter is asked again every minute during its slot, if the slot is longer than two
   minutes; a meter with a battery once, and then only as often as the battery allows. If the slot
   was first reported as M, a value that is read later is sent as a new version of that row, flagged
   LATE. Only a state (EVT: a door, an alarm, a fault) is not repeated in every slot: a row is sent
   when the state changes, when it becomes unknown (M), and when it is known again. Its date is the
   slot in which this was observed.
4. **gardien estimates no missing value.** A gap stays a gap; no index is ever invented. The only
   exception is the consumption of the step in which a meter was exchanged without its indexes (E,
   see 7).
5. **Doubtful values are kept and marked.** V: measured, all checks passed. R: measured, but a check
   was not possible, because the previous value or the meter's rating is not known. S: measured, but
   a check failed; do not add it to sums. The other letters: E estimated (see 7), C corrected (not
   used by this version), K calculated, M missing, W withheld.
6. **An index that falls** has rolled over (flag ROLL) if it was above 90 % of its maximum and the
   resulting consumption is possible. Otherwise it is marked S and RST: the meter was reset, or read
   wrongly. If the next value is plausible after this one, this value becomes the new reference.
7. **Another serial number** than recorded: nothing is sent for that dwelling until somebody records
   what happened. The first index after an exchange is flagged EXCH. The consumption of that step is
   calculated from both meters: K with their indexes at the exchange, E without.
8. **Plausibility.** An index that rises faster than 1.2 times the meter's `rating`: S and SPK. A
   value outside the range of its channel: S and RNG; a value that changes faster than possible: S
   and SPK. A sensor with exactly the same value for 24 h, or an index unchanged for 30 days: FRZ,
   for information.
9. **Time.** Steps shorter than a day have their slots in UTC. A day begins at midnight at the
   building and has 23, 24 or 25 hours (flag DST at the end of a short or long day). `d` states how
   many seconds after its slot a value was read; an index read later than a quarter of its step is
   flagged PART. While no time service keeps the clock, readings are not dated: they wait in memory
   and get their dates once the clock is known (flag CLK, a new version). Readings that wait during
   a restart are lost and reported as M. CLK on a row without `ver` has another meaning: the meter's
   own clock is wrong by more than five minutes; the values that the meter stores have the same
   error.
10. **A value is sent once.** For each slot, only the first value is used, and for each channel of a
    place only one meter. A second reading for the slot is dropped, and a second meter for the same
    channel is withheld and named in `gardien status`. The platform ignores a second row with the
    same key, and counts it.
11. **Outage.** Reading continues while the platform cannot be reached; `gardien check` states for
    how many days there is space. When it is used up, values are deleted in this order: first, of
    common areas and plant, all but one an hour; then all but one a day; then the oldest values of
    all series. The index at midnight of every meter is kept, and so is every change of a state.
    Deleted values are M `shed`, and counted.
12. **Sums over dwellings** (K, method SUM, `n`) are made of what was read: a missing dwelling
    lowers `n`, nothing is estimated or scaled up, and a late value makes no new version. A slot
    with values of fewer dwellings than the configuration requires (`privacy.fewest`), or than four
    fifths of the group, has no sum (W `few`, if such rows are configured).
"""

FRENCH = """\
# MDP-1 : ce que fait gardien des valeurs manquantes, tardives et douteuses

Chaque lot nomme cette politique (`"policy": "MDP-1"`). La politique s'applique à chaque pas de
chaque série.

1. **Rien n'est écrasé.** Une valeur est transmise telle que le compteur l'a donnée, avec le même
   nombre de chiffres. Une correction est une nouvelle version de la ligne (`ver`) ; la version la
   plus haute fait foi. Une valeur absente n'est pas un zéro.
2. **L'index est la référence.** La consommation d'un pas (`INT`) est calculée à partir de deux
   index consécutifs si `intervals: true` est indiqué ; elle est marquée K. Une moyenne (`AVG`) est
   calculée si `mean:` est indiqué et si au moins quatre cinquièmes des valeurs du pas sont
   correctes. C'est la moyenne des valeurs correctes ; elle est aussi marquée K.
3. **Chaque pas donne une ligne** (sauf pour un état, voir plus bas) : une valeur, ou M avec le
   motif. `silent` : le compteur n'a pas répondu ; `link` : sa ligne était coupée ; `agent` :
   gardien, ou le composant qui lit ou conserve la valeur, était arrêté ; `bad` : le compteur a
   déclaré la valeur invalide, ou une erreur de gardien a empêché de la lire ; `early` : gardien
   n'avait encore reçu aucune réponse de ce compteur ; `busy` : le temps manquait pour lire tous les
   compteurs de la ligne, ou la valeur a été lue après la fin de son pas ; `shed` : valeur
   abandonnée parce que le disque était plein ou en panne ; `clock` : l'heure n'était pas connue ;
   `uplink` : l'exploitant avait retiré la liaison vers ce destinataire, et rien n'a été conservé
   pour lui. Une suite de M tient en une ligne (`span`).
   Un compteur muet est interrogé de nouveau chaque minute pendant son pas, si celui-ci dépasse deux
   minutes ; un compteur à pile l'est une fois, puis seulement aussi souvent que la pile le permet.
   Si le pas a d'abord été signalé par M, la valeur lue plus tard est envoyée comme nouvelle version
   de cette ligne, marquée LATE. Seul un état (EVT : porte, alarme, défaut) n'est pas répété à
   chaque pas : une ligne est envoyée quand il change, quand il devient inconnu (M) et quand il est
   de nouveau connu. Sa date est celle du pas de l'observation.
4. **gardien n'estime aucune valeur manquante.** Un trou reste un trou ; aucun index n'est inventé.
   Seule exception : la consommation du pas d'un échange de compteur sans index relevés (E, voir 7).
5. **Les valeurs douteuses sont conservées et signalées.** V : mesurée, tous les contrôles ont
   réussi. R : mesurée, mais un contrôle était impossible, faute de valeur précédente ou de
   puissance connue du compteur. S : mesurée, mais un contrôle a échoué ; ne pas l'additionner. Les
   autres lettres : E estimée (voir 7), C corrigée (non utilisée par cette version), K calculée, M
   manquante, W retenue.
6. **Un index qui baisse** est repassé par zéro (ROLL) s'il dépassait 90 % de son maximum et si la
   consommation qui en résulte est possible. Sinon il est marqué S et RST : le compteur a été remis
   à zéro ou mal lu. Si la valeur suivante est vraisemblable après lui, il devient la nouvelle
   référence.
7. **Un autre numéro de série** que celui enregistré : rien n'est envoyé pour ce logement tant que
   personne n'a enregistré ce qui s'est passé. Le premier index après un échange porte EXCH. La
   consommation de ce pas est calculée à partir des deux compteurs : K avec leurs index à l'échange,
   E sans eux.
8. **Vraisemblance.** Un index qui monte plus vite que 1,2 fois la puissance (`rating`) : S et SPK.
   Une valeur hors de la plage de sa grandeur : S et RNG ; une valeur qui varie plus vite que
   possible : S et SPK. Un capteur dont la valeur est exactement la même pendant 24 h, un index
   immobile pendant 30 jours : FRZ, pour information.
9. **Temps.** Les pas de moins d'un jour sont en UTC. Le jour commence à minuit, heure du bâtiment,
   et compte 23, 24 ou 25 heures (DST à la fin d'un jour court ou long). `d` donne le nombre de
   secondes entre le pas et la lecture ; un index lu après le quart de son pas porte PART. Tant
   qu'aucun service de temps ne règle l'horloge, les lectures ne sont pas datées : elles attendent
   en mémoire et reçoivent leur date quand l'heure est connue (CLK, nouvelle version). Celles qui
   attendent lors d'un redémarrage sont perdues et signalées par M. Sur une ligne sans `ver`, CLK a
   un autre sens : l'horloge du compteur se trompe de plus de cinq minutes ; les valeurs qu'il
   mémorise ont la même erreur.
10. **Une valeur n'est envoyée qu'une fois.** Pour chaque pas, seule la première valeur est
    utilisée, et pour chaque grandeur d'un lieu un seul compteur. Une seconde lecture est écartée ;
    les valeurs d'un second compteur de la même grandeur sont retenues, et `gardien status` le
    signale. La plateforme ignore une seconde ligne de même clé, et la compte.
11. **Coupure.** La lecture continue quand la plateforme est injoignable ; `gardien check` indique
    pour combien de jours il y a de la place. Quand la place est épuisée, des valeurs sont
    supprimées dans cet ordre : d'abord, des parties communes, toutes sauf une par heure ; puis
    toutes sauf une par jour ; puis les plus anciennes de toutes les séries. L'index de minuit de
    chaque compteur est conservé, ainsi que chaque changement d'état. Une valeur supprimée devient M
    `shed`, et est comptée.
12. **Les sommes sur plusieurs logements** (K, méthode SUM, `n`) sont faites des valeurs lues : un
    logement manquant abaisse `n`, rien n'est estimé ni extrapolé, et une valeur tardive ne donne
    pas de nouvelle version. Un pas dont on a les valeurs de moins de logements que ne l'exige la
    configuration (`privacy.fewest`), ou de moins des quatre cinquièmes du groupe, n'a pas de somme
    (W `few`, si ces lignes sont configurées).
"""

TEXTS = {"en": ENGLISH, "fr": FRENCH}
"""the policy by language"""
