"""Texts of the letter to the people of a dwelling, in French and English."""

from __future__ import annotations

WORDS = {
    "fr": {
        "title": "Les données de votre logement",
        "intro": "Cette lettre dit ce que le boîtier qui relève les compteurs de l'immeuble (la « "
        "passerelle ») sait du logement {place}, à qui il l'envoie et pourquoi. La passerelle ne "
        "connaît le nom d'aucun occupant.",
        "lived": "La passerelle vous connaît sous le numéro d'occupation {id}{reference}, depuis "
        "le {since}.",
        "lived_until": "La passerelle vous connaît sous le numéro d'occupation {id}{reference}, "
        "du {since} au {until}.",
        "vacant": "Ce logement est vacant depuis le {since} : ses derniers occupants sont partis, "
        "et personne n'y a emménagé depuis.",
        "unknown": "La passerelle ne sait pas si quelqu'un habite ce logement : aucun occupant n'y "
        "est enregistré. Aucune donnée personnelle n'en est envoyée.",
        "recorded": "{title} : {value}. Cette valeur n'est envoyée à personne.",
        "gaps": "Cette lettre est incomplète",
        "gaps_words": "La passerelle ne peut pas répondre sur les points suivants. Tant que le "
        "gestionnaire ne les a pas éclaircis, au besoin auprès des destinataires, cette lettre "
        "n'est pas une réponse complète à une demande d'accès (RGPD, article 15).",
        "gap_meter": "Compteur {detail} : aucun appareil n'a encore donné ce numéro de série (le "
        "logiciel de la passerelle est à l'arrêt, ou le compteur n'a pas répondu, n'est pas "
        "relevé ici, ou porte un autre numéro). La passerelle ne peut pas dire ce que ce compteur "
        "mesure chez vous, ni ce qui en est envoyé.",
        "gap_no_uplink": "{recipient} : aucune liaison vers ce destinataire n'est configurée, et "
        "la passerelle n'en garde aucune trace. Elle ne peut pas dire s'il a reçu des données "
        "auparavant, ni lui demander d'en effacer.",
        "gap_leftover": "{recipient} : la liaison vers ce destinataire a été supprimée de la "
        "configuration, et des valeurs de l'immeuble qui lui étaient destinées sont encore ici "
        "({detail}). La passerelle ne peut pas dire si certaines sont les vôtres.",
        "gap_unreadable": "{recipient} : ce que la passerelle garde pour ce destinataire n'a pas "
        "pu être lu. Elle ne peut pas dire ce qui reste ici pour lui, ce qu'il a reçu, ni ce "
        "qu'il a effacé.",
        "gap_damaged": "{recipient} : ce que la passerelle avait noté pour ce destinataire a été "
        "endommagé ou perdu. Elle ne peut pas dire ce qu'il avait reçu auparavant.",
        "gap_restored": "La passerelle a été restaurée à partir d'une sauvegarde du {detail}. "
        "Elle ne peut pas dire ce qui a été reçu avant, ni par qui.",
        "gap_broker": "{recipient} : seul un serveur intermédiaire (broker) accuse réception pour "
        "ce destinataire. La passerelle ne peut pas dire ce que le destinataire lui-même a reçu ni "
        "ce qu'il a effacé.",
        "gap_clock": "La passerelle n'est pas sûre de la date. Elle ne peut pas dire ce qui est en "
        "vigueur aujourd'hui.",
        "stopped": "Ce qui vient de cesser",
        "stopped_words": "{recipient} ne reçoit plus : {channels} (« {purpose} »). Ce qui "
        "attendait ici d'être envoyé est détruit ; la passerelle demande au destinataire "
        "d'effacer ce qu'il a reçu.",
        "stopped_no_uplink": "Accord retiré : {recipient}, {channels} (« {purpose} »). Aucune "
        "liaison vers ce destinataire n'est configurée : rien ne lui est envoyé, et la passerelle "
        "ne peut pas lui demander d'effacer ce qu'il a pu recevoir.",
        "stopped_unreadable": "Accord retiré : {recipient}, {channels} (« {purpose} »). Rien de "
        "nouveau ne lui est envoyé, mais la passerelle n'a pas pu vérifier que ce qui attendait "
        "ici d'être envoyé est détruit.",
        "stopped_nothing": "Il n'y avait plus d'accord à retirer.",
        "goes_on": "Se poursuit sans votre accord : {recipient} reçoit les index de fin de mois "
        "et de changement d'occupant, parce que la loi ou le contrat l'exige ({reference}).",
        "goes_on_no_uplink": "Reste possible sans votre accord : {recipient} a droit aux index de "
        "fin de mois et de changement d'occupant, parce que la loi ou le contrat l'exige "
        "({reference}). Aucune liaison vers lui n'est configurée : rien ne lui est envoyé "
        "aujourd'hui.",
        "measured": "Ce qui est mesuré",
        "measured_columns": "grandeur|ce qu'elle révèle",
        "measured_nothing": "Parmi ce que la passerelle relève, rien n'est attribué à votre "
        "logement.",
        "measured_unknown": "La passerelle ne peut pas dire ce qui est mesuré chez vous.",
        "measured_gone": "La passerelle ne mesure plus rien pour vous : vous n'habitez pas ce "
        "logement aujourd'hui.",
        "sent": "Ce qui est envoyé",
        "sent_columns": "à qui|quoi|à quelle fréquence|pourquoi|accord ou obligation",
        "nothing": "Aujourd'hui, aucune valeur mesurée dans votre logement ne quitte l'immeuble.",
        "nothing_new": "Rien de nouveau n'est envoyé, mais des valeurs déjà mesurées peuvent "
        "encore l'être : voir « Ce qui reste ici ».",
        "nothing_alone": "Aucune donnée propre à votre logement n'est envoyée.",
        "nothing_known": "La passerelle ne sait pas tout (voir « Cette lettre est incomplète ») : "
        "elle ne peut pas dire que rien ne quitte l'immeuble.",
        "nothing_else_known": "La passerelle ne sait pas tout (voir « Cette lettre est incomplète "
        "») : elle ne peut pas dire que rien d'autre ne quitte l'immeuble.",
        "notice": "{quantity} (aucun chiffre : le destinataire apprend seulement que cette mesure "
        "existe et qu'elle n'est pas transmise)",
        "notice_why": "le destinataire est informé de ce qui n'est pas transmis, et pourquoi : "
        "{reason}",
        "why_consent": "aucun accord ne le permet",
        "why_occupancy": "on ne sait pas si quelqu'un y habite",
        "why_vacant": "le logement est vacant",
        "every_day": "chaque jour",
        "every_month": "chaque mois",
        "knows": "Outre les valeurs mesurées, {recipient} connaît ou connaîtra : {facts}. Aucun "
        "nom de personne ne lui est envoyé.",
        "fact_place": "l'identifiant et la désignation du logement",
        "fact_aliases": "les autres références du logement ({schemes})",
        "fact_meter": "les numéros de vos compteurs et leur date de pose",
        "fact_occupancy": "l'identifiant et les dates de votre occupation",
        "fact_consents": "vos accords",
        "sums": "Ce qui entre dans un total de plusieurs logements",
        "sums_words": "Votre logement entre dans un total calculé sur plusieurs logements, dont "
        "personne ne peut tirer votre part. Ce total n'est envoyé que s'il réunit assez de "
        "logements dont les valeurs ne sont pas aussi envoyées une par une. Les logements qui le "
        "composent ne changent que le 1er du mois.",
        "sums_columns": "à qui|quoi|à quelle fréquence|logements|jusqu'au",
        "sum_never": "non envoyé : trop peu de logements",
        "consents": "Vos accords",
        "consents_columns": "à qui|quoi|à quelle fréquence|pourquoi|donné le|du|au|aujourd'hui",
        "in_force": "en vigueur",
        "in_force_no_uplink": "en vigueur, mais aucune liaison n'est configurée",
        "begins_later": "pas encore commencé",
        "ended": "terminé",
        "withdrawn": "retiré le {day}",
        "marks": "Vos retraits et vos refus",
        "marks_words": "Un accord donné après l'un de ces faits n'est valable que si vous en "
        "aviez connaissance.",
        "marks_columns": "noté le|à qui|quoi",
        "mark_withdrawn": "retrait total ou partiel",
        "mark_refused": "refus d'une demande",
        "mark_restored": "passerelle remplacée : votre accord doit être demandé de nouveau",
        "everyone": "tous les destinataires",
        "forms": "Formulaires imprimés pour vous",
        "forms_columns": "numéro|imprimé le|signé le",
        "not_answered": "pas de réponse connue",
        "duties": "Ce que la loi ou un contrat permet sans votre accord",
        "duties_words": "L'index de la fin de chaque mois, et celui de minuit (0 h) le jour d'un "
        "changement d'occupant ou d'une facturation. À cet effet, l'index de minuit est gardé ici "
        "{registers} jours.",
        "duties_columns": "à qui|quoi|à quel titre|facturation|du|au|aujourd'hui",
        "held": "Ce qui reste ici",
        "held_words": "Aucune autre valeur n'est envoyée ni conservée.",
        "held_words_duty": "Aucune autre valeur n'est envoyée ; rien d'autre que l'index de minuit "
        "n'est conservé.",
        "held_nothing": "Rien d'autre n'est mesuré.",
        "held_unknown": "La passerelle ne peut pas dire si autre chose est mesuré.",
        "waiting": "Valeurs destinées à {recipient}, en attente d'envoi ou envoyées sans qu'il en "
        "ait confirmé la réception : {number}. Elles figurent dans le tableau joint (CSV), et "
        "peuvent encore être livrées pendant {unsent} jours.",
        "registers": "Index de minuit gardés pour une obligation (loi ou contrat) : {number}. Ils "
        "figurent dans le tableau joint (CSV).",
        "received": "Ce qui a été reçu",
        "received_words": "Chaque ligne donne le nombre de valeurs dont le destinataire a "
        "confirmé la réception ce jour-là (en temps universel).",
        "received_columns": "jour|par qui|quoi|valeurs|effacement",
        "received_nothing": "Aucun destinataire n'a confirmé avoir reçu une valeur.",
        "received_unknown": "Aucun accusé de réception n'est noté ici, mais la passerelle ne sait "
        "pas tout (voir « Cette lettre est incomplète »).",
        "erasure_none": "pas d'effacement demandé",
        "erasure_confirmed": "effacement confirmé",
        "erasure_asked": "effacement demandé, pas encore confirmé",
        "erasure_cannot_ask": "effacement à demander : aucune liaison configurée",
        "erasure_confirmed_part": "effacement confirmé pour une partie",
        "erasure_asked_part": "effacement demandé pour une partie, pas encore confirmé",
        "erasure_cannot_ask_part": "effacement d'une partie à demander : aucune liaison configurée",
        "erasures": "L'effacement chez les destinataires",
        "erasures_words": "Quand des valeurs sont annulées, la passerelle demande au destinataire "
        "d'effacer ce qu'il a reçu ou a pu recevoir. L'effacement n'est tenu pour fait que "
        "lorsqu'il le confirme.",
        "erasures_columns": "décidé le|à qui|quoi|période|pourquoi|réponse",
        "everything": "tout",
        "reason_withdrawn": "accord retiré",
        "reason_moved": "changement d'occupant",
        "reason_exchanged": "compteur remplacé",
        "reason_corrected": "correction",
        "answer_rows": "effacement confirmé (lignes effacées : {rows})",
        "answer_none": "effacement confirmé : il n'y avait rien à effacer",
        "answer_waits": "demandé, pas encore confirmé",
        "answer_never": "pas demandé : aucune liaison vers ce destinataire n'est configurée",
        "looks": "Qui a consulté vos données ici",
        "looks_words": "Consultations faites sur la passerelle elle-même, pendant que vous "
        "habitez ou habitiez ce logement : la première de chaque jour est notée, et gardée "
        "{years} ans. Ce que les destinataires ont consulté chez eux n'est pas connu ici.",
        "looks_columns": "qui|comment|jours|du|au",
        "looks_nothing": "Aucune consultation n'est notée.",
        "look_read": "lecture d'un compteur (read)",
        "look_status": "état de la passerelle, tous les logements ensemble (status)",
        "look_privacy.person": "cette lettre (privacy person)",
        "look_meter.verify": "vérification d'un compteur (meter verify)",
        "look_meter.load": "essai de charge d'un compteur (meter load)",
        "kept": "Combien de temps les données sont gardées",
        "kept_words": "Quand un destinataire a confirmé la réception, la passerelle efface les "
        "valeurs ; une copie chiffrée est gardée {days} jours au plus. Ce que personne ne reçoit "
        "est détruit après {unsent} jours. Pour une obligation (loi ou contrat), l'index de "
        "minuit est gardé {registers} jours. Le registre des envois, sans valeurs, est gardé "
        "{years} ans.",
        "rights": "Vos droits",
        "rights_words": "Vous pouvez retirer votre accord à tout moment, sans avoir à dire "
        "pourquoi, auprès du gestionnaire de l'immeuble : l'effet est immédiat. Vous pouvez "
        "demander au responsable du traitement et aux destinataires l'accès à vos données, leur "
        "rectification, leur effacement et la limitation de leur traitement (RGPD, articles 15 à "
        "18). Vous pouvez recevoir les données traitées avec votre accord dans un format lisible "
        "par un logiciel, et les faire transmettre à un autre organisme (portabilité, article 20) "
        ": ce qui est encore ici figure dans un tableau (CSV). Vous pouvez vous opposer, pour des "
        "raisons tenant à votre situation, aux traitements qui ne reposent ni sur votre accord ni "
        "sur une obligation légale (opposition, article 21). Vous pouvez adresser une réclamation "
        "à la CNIL (www.cnil.fr).",
    },
    "en": {
        "title": "The data of your dwelling",
        "intro": "This letter says what the device that reads the building's meters (the "
        '"gateway") knows about the dwelling {place}, to whom it sends this and why. The gateway '
        "does not know the name of any occupant.",
        "lived": "You are known there as occupancy {id}{reference}, since {since}.",
        "lived_until": "You are known there as occupancy {id}{reference}, from {since} to {until}.",
        "vacant": "This dwelling has been vacant since {since}: the last occupants have moved "
        "out, and nobody has moved in since.",
        "unknown": "The gateway does not know whether somebody lives in this dwelling: no "
        "occupants are recorded. No personal data of it are sent.",
        "recorded": "{title}: {value}. This value is not sent to anybody.",
        "gaps": "This letter is incomplete",
        "gaps_words": "The gateway cannot answer on the following points. The building manager "
        "must clear them up, with the recipients where necessary, before this letter is a full "
        "answer to a request for access (GDPR, article 15).",
        "gap_meter": "Meter {detail}: no device has reported this serial number yet (the "
        "gateway's software is stopped, or the meter has not answered, is not read here, or has "
        "another number). The gateway cannot say what this meter measures in your home, nor what "
        "of it is sent.",
        "gap_no_uplink": "{recipient}: no uplink to this recipient is configured, and the gateway "
        "has no record of it. It cannot say whether this recipient received data before, and "
        "cannot ask it to erase any.",
        "gap_leftover": "{recipient}: the uplink to this recipient was removed, and values of the "
        "building still wait for it here ({detail}). The gateway cannot say whether some of them "
        "are yours.",
        "gap_unreadable": "{recipient}: what the gateway keeps for this recipient could not be "
        "read. The gateway cannot say what waits for it here, what it has received, nor what it "
        "has erased.",
        "gap_damaged": "{recipient}: what the gateway had recorded for this recipient was damaged "
        "or lost. The gateway cannot say what the recipient received before.",
        "gap_restored": "The gateway was restored from a backup of {detail}. It cannot say what "
        "was received before, nor by whom.",
        "gap_broker": "{recipient}: only a server in between (a broker) confirms receipt for this "
        "recipient. The gateway cannot say what the recipient itself has received or erased.",
        "gap_clock": "The gateway is not sure of the date. It cannot say what is in force today.",
        "stopped": "What has just ended",
        "stopped_words": '{recipient} receives no more of: {channels} ("{purpose}"). What waited '
        "here is destroyed; the recipient is asked to erase what it has received.",
        "stopped_no_uplink": 'Consent withdrawn: {recipient}, {channels} ("{purpose}"). No uplink '
        "to this recipient is configured: nothing is sent to it, and the gateway cannot ask it to "
        "erase what it may have received.",
        "stopped_unreadable": 'Consent withdrawn: {recipient}, {channels} ("{purpose}"). Nothing '
        "new is sent to it, but the gateway could not make sure that what waited here is "
        "destroyed.",
        "stopped_nothing": "There was no consent left to withdraw.",
        "goes_on": "Continues without your consent: {recipient} receives the index at the end "
        "of each month and at a change of occupant, because a law or contract requires it "
        "({reference}).",
        "goes_on_no_uplink": "Remains possible without your consent: {recipient} may have the "
        "index at the end of each month and at a change of occupant, because a law or contract "
        "requires it ({reference}). No uplink to this recipient is configured: nothing is sent to "
        "it today.",
        "measured": "What is measured",
        "measured_columns": "quantity|what it shows",
        "measured_nothing": "Nothing that the gateway reads is known to be yours.",
        "measured_unknown": "The gateway cannot say what is measured in your home.",
        "measured_gone": "The gateway measures nothing for you any more: you do not live in this "
        "dwelling today.",
        "sent": "What is sent",
        "sent_columns": "to whom|what|how often|why|consent or duty",
        "nothing": "No value measured in your dwelling leaves the building today.",
        "nothing_new": "Nothing new is sent, but values that were measured already may still be: "
        'see "What stays here".',
        "nothing_alone": "Nothing is sent about your dwelling alone.",
        "nothing_known": 'The gateway does not know everything (see "This letter is incomplete"): '
        "it cannot say that nothing leaves the building.",
        "nothing_else_known": 'The gateway does not know everything (see "This letter is '
        'incomplete"): it cannot say that nothing else leaves the building.',
        "notice": "{quantity} (no value: only that this measurement exists and is withheld)",
        "notice_why": "the recipient is told what is withheld, and why: {reason}",
        "why_consent": "no consent allows it",
        "why_occupancy": "it is unknown whether somebody lives there",
        "why_vacant": "the dwelling is vacant",
        "every_day": "once a day",
        "every_month": "once a month",
        "knows": "Besides values, {recipient} knows or will know: {facts}. No person's name is "
        "sent.",
        "fact_place": "the dwelling's id and label",
        "fact_aliases": "the dwelling's other references ({schemes})",
        "fact_meter": "the numbers of your meters, and since when they are there",
        "fact_occupancy": "the id and the dates of your occupancy",
        "fact_consents": "your consents",
        "sums": "What counts in a sum",
        "sums_words": "Your dwelling counts in a sum over several dwellings, from which nobody can "
        "tell what is yours. It is sent only if it has enough dwellings whose values are not sent "
        "one by one as well. Its dwellings change only on the 1st of a month.",
        "sums_columns": "to whom|what|how often|dwellings|until",
        "sum_never": "not sent: too few dwellings",
        "consents": "Your consents",
        "consents_columns": "to whom|what|how often|why|given on|from|to|today",
        "in_force": "in force",
        "in_force_no_uplink": "in force, but no uplink is configured",
        "begins_later": "not begun yet",
        "ended": "ended",
        "withdrawn": "withdrawn on {day}",
        "marks": "What you withdrew and refused",
        "marks_words": "A consent given after one of these counts only if you knew of it.",
        "marks_columns": "noted on|to whom|what",
        "mark_withdrawn": "a withdrawal, of all or of a part",
        "mark_refused": "a request refused",
        "mark_restored": "gateway replaced: you have to be asked again",
        "everyone": "all recipients",
        "forms": "Forms printed for you",
        "forms_columns": "number|printed on|signed on",
        "not_answered": "no answer known",
        "duties": "What law or contract allows without your consent",
        "duties_words": "The index at the end of each month, and the index of 00:00 at a change of "
        "occupant or on a billing date. For this purpose, midnight readings are kept here for "
        "{registers} days.",
        "duties_columns": "to whom|what|by what right|billing|from|to|today",
        "held": "What stays here",
        "held_words": "No other value is sent or kept.",
        "held_words_duty": "No other value is sent, and only midnight readings are kept.",
        "held_nothing": "Nothing else is measured.",
        "held_unknown": "The gateway cannot say whether anything else is measured.",
        "waiting": "Values for {recipient} that wait here, or were sent and are not confirmed by "
        "the recipient: {number}. They are in the table that comes with this letter (CSV), and may "
        "still be delivered for {unsent} days.",
        "registers": "Midnight readings kept for a duty (law or contract): {number}. They are in "
        "the table that comes with this letter (CSV).",
        "received": "What was received",
        "received_words": "Each line counts the values of which the recipient confirmed the "
        "receipt on that day (UTC).",
        "received_columns": "day|by whom|what|values|erasure",
        "received_nothing": "No recipient has confirmed the receipt of any value.",
        "received_unknown": "No receipt is recorded here, but the gateway does not know everything "
        '(see "This letter is incomplete").',
        "erasure_none": "no erasure asked for",
        "erasure_confirmed": "erasure confirmed",
        "erasure_asked": "asked to erase, not yet confirmed",
        "erasure_cannot_ask": "erasure still to be asked for: no uplink is configured",
        "erasure_confirmed_part": "erasure of a part confirmed",
        "erasure_asked_part": "asked to erase a part, not yet confirmed",
        "erasure_cannot_ask_part": "erasure of a part still to be asked for: no uplink is "
        "configured",
        "erasures": "Erasure at the recipients",
        "erasures_words": "When values are retracted, the recipient is asked to erase what it has "
        "received or may have received. The erasure counts as done only when the recipient "
        "confirms it.",
        "erasures_columns": "decided on|to whom|what|period|why|answer",
        "everything": "everything",
        "reason_withdrawn": "consent withdrawn",
        "reason_moved": "change of occupant",
        "reason_exchanged": "meter exchanged",
        "reason_corrected": "correction",
        "answer_rows": "erasure confirmed (rows erased: {rows})",
        "answer_none": "erasure confirmed: there was nothing to erase",
        "answer_waits": "asked to erase, not yet confirmed",
        "answer_never": "not asked: no uplink to this recipient is configured",
        "looks": "Who looked at your data here",
        "looks_words": "Accesses on the gateway itself, while you live or lived there: the first "
        "of each day is recorded, and kept for {years} years. The gateway does not know what "
        "recipients looked at in their own systems.",
        "looks_columns": "who|how|days|from|to",
        "looks_nothing": "No access is recorded.",
        "look_read": "a meter was read (read)",
        "look_status": "state of the gateway, all dwellings together (status)",
        "look_privacy.person": "this letter (privacy person)",
        "look_meter.verify": "a meter was checked (meter verify)",
        "look_meter.load": "a meter was tested with a load (meter load)",
        "kept": "How long data are kept",
        "kept_words": "Once a recipient has confirmed the receipt, the gateway erases the values; "
        "an encrypted copy is kept for {days} days at most. What nobody receives is destroyed "
        "after {unsent} days. For a duty (law or contract), midnight readings are kept for "
        "{registers} days. The record of what was sent, without values, is kept for {years} years.",
        "rights": "Your rights",
        "rights_words": "You may withdraw your consent at any time and without a reason: tell the "
        "building manager. It takes effect at once. You may ask the controller, and "
        "those who received data, for access to your data, for correction, erasure and "
        "restriction of processing (GDPR, articles 15 to 18). You may receive the data "
        "that are processed with your consent in a format that software can read, and have "
        "them sent to somebody else (portability, article 20): what is still here is in "
        "a table (CSV). You may object, for reasons of your situation, to processing that is "
        "based neither on your consent nor on a legal obligation (objection, article 21). You "
        "may complain to the data protection authority (in France: CNIL, www.cnil.fr).",
    },
}
"""texts by language and name; `|` separates the columns of a table"""
