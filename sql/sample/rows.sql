-- Two tenants of the sample application, and their rows.
--
-- Run as the owner of the database, after schema.sql. A second run changes nothing.

begin;

insert into cloison.tenants
    (id, name, slug, region, plan, status, admin_email, metadata, external_key)
values
    ('e0000000-0000-4000-8000-000000000001', 'École Ibn Khaldoun Alger',
     'ecole-ibn-khaldoun-alger', 'DZ', 'pro', 'active', 'direction@ibn-khaldoun.example',
     '{"type": "school", "students": 500, "city": "Alger"}', '1'),
    ('d0000000-0000-4000-8000-000000000001', 'Cabinet Dr. Dupont Genève',
     'cabinet-dupont-geneve', 'CH', 'enterprise', 'active', 'cabinet@dr-dupont.example',
     '{"type": "medical", "specialty": "general", "city": "Genève"}', '2')
on conflict do nothing;

insert into public.plans
    (code, name, price_cents, currency, monthly_credits)
values
    ('free', 'Découverte', 0, 'EUR', 100),
    ('pro', 'Professionnel', 4900, 'EUR', 5000),
    ('enterprise', 'Entreprise', 24900, 'EUR', 50000)
on conflict do nothing;

insert into public.internal_notes
    (id, about, author, body)
values
    ('a0000000-0000-4000-8000-000000000001', 'ecole-ibn-khaldoun-alger', 'support', 'Renouvellement prévu en septembre, avant la rentrée.'),
    ('a0000000-0000-4000-8000-000000000002', 'cabinet-dupont-geneve', 'vente', 'Demande une remise pour un second cabinet à Lausanne.'),
    ('a0000000-0000-4000-8000-000000000003', 'plateforme', 'exploitation', 'Maintenance le premier dimanche du mois.')
on conflict do nothing;

insert into public.projects
    (tenant_id, id, name, description, status, budget_cents, due_on)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0100000-0000-4000-8000-000000000001', 'Rentrée 2026', 'Inscriptions, listes de classes et emplois du temps', 'active', 120000000, '2026-09-06'),
    ('e0000000-0000-4000-8000-000000000001', 'e0100000-0000-4000-8000-000000000002', 'Bibliothèque numérique', 'Numérisation du fonds arabe et français', 'active', 45000000, '2026-12-15'),
    ('e0000000-0000-4000-8000-000000000001', 'e0100000-0000-4000-8000-000000000003', 'Rénovation du laboratoire', 'Paillasses, hottes et matériel de chimie', 'draft', 310000000, '2027-03-31'),
    ('d0000000-0000-4000-8000-000000000001', 'd0100000-0000-4000-8000-000000000001', 'Dossier patient informatisé', 'Reprise de 3 200 dossiers papier', 'active', 8500000, '2026-11-30'),
    ('d0000000-0000-4000-8000-000000000001', 'd0100000-0000-4000-8000-000000000002', 'Téléconsultation', 'Salle équipée et facturation Tarmed', 'active', 2400000, '2026-10-01'),
    ('d0000000-0000-4000-8000-000000000001', 'd0100000-0000-4000-8000-000000000003', 'Certification qualité', 'Audit EQUAM du cabinet', 'draft', 950000, '2027-02-28')
on conflict do nothing;

insert into public.knowledge_base
    (tenant_id, id, title, body, tags)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0200000-0000-4000-8000-000000000001', 'Règlement intérieur', 'Les cours commencent à 8 h. Tout retard est signalé aux parents le jour même.', '{règlement,parents}'),
    ('e0000000-0000-4000-8000-000000000001', 'e0200000-0000-4000-8000-000000000002', 'Bourses et réductions', 'Une réduction de 15 % est accordée à partir du deuxième enfant inscrit.', '{finance,parents}'),
    ('e0000000-0000-4000-8000-000000000001', 'e0200000-0000-4000-8000-000000000003', 'Calendrier du baccalauréat', 'Les épreuves blanches ont lieu la dernière semaine de février.', '{examens}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0200000-0000-4000-8000-000000000001', 'Accueil d’un nouveau patient', 'Carte LAMal, consentement signé, médecin précédent et allergies.', '{accueil}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0200000-0000-4000-8000-000000000002', 'Chaîne du froid des vaccins', 'Entre 2 et 8 °C ; relever la température deux fois par jour.', '{vaccins,qualité}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0200000-0000-4000-8000-000000000003', 'Urgences hors horaires', 'Orienter vers le 144 ou la permanence de Cornavin.', '{urgence}')
on conflict do nothing;

insert into public.bolt_workflows
    (tenant_id, id, project_id, name, steps, is_enabled)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000001', 'e0100000-0000-4000-8000-000000000001', 'Relance des inscriptions incomplètes', '["lister", "écrire aux parents", "relancer à 7 jours"]', true),
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000002', 'e0100000-0000-4000-8000-000000000002', 'Catalogage d’un ouvrage', '["numériser", "reconnaître", "indexer"]', true),
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000003', 'e0100000-0000-4000-8000-000000000003', 'Demande de devis', '["rédiger", "envoyer à trois fournisseurs", "comparer"]', false),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000001', 'd0100000-0000-4000-8000-000000000001', 'Reprise d’un dossier papier', '["numériser", "vérifier", "classer"]', true),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000002', 'd0100000-0000-4000-8000-000000000002', 'Rappel de rendez-vous', '["SMS à 48 h", "appel à 24 h"]', true),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000003', 'd0100000-0000-4000-8000-000000000003', 'Préparation de l’audit', '["rassembler", "relire", "déposer"]', false)
on conflict do nothing;

insert into public.orchestrator_state
    (tenant_id, workflow_id, phase, state)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000001', 'relance', '{"envoyés": 42, "réponses": 17}'),
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000002', 'indexation', '{"pages": 1280}'),
    ('e0000000-0000-4000-8000-000000000001', 'e0300000-0000-4000-8000-000000000003', 'brouillon', '{"fournisseurs": []}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000001', 'vérification', '{"dossiers": 815, "reste": 2385}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000002', 'envoi', '{"rappels": 23}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0300000-0000-4000-8000-000000000003', 'collecte', '{"pièces": 9}')
on conflict do nothing;

insert into public.bmad_workflows
    (tenant_id, id, agent, goal, status, result)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0500000-0000-4000-8000-000000000001', 'analyste', 'Résumer les résultats du premier trimestre', 'done', '{"moyenne": 12.8}'),
    ('e0000000-0000-4000-8000-000000000001', 'e0500000-0000-4000-8000-000000000002', 'rédacteur', 'Préparer la lettre de rentrée aux parents', 'running', null),
    ('e0000000-0000-4000-8000-000000000001', 'e0500000-0000-4000-8000-000000000003', 'planificateur', 'Répartir les salles d’examen', 'queued', null),
    ('d0000000-0000-4000-8000-000000000001', 'd0500000-0000-4000-8000-000000000001', 'analyste', 'Comparer les motifs de consultation par saison', 'done', '{"hiver": "grippe", "été": "allergies"}'),
    ('d0000000-0000-4000-8000-000000000001', 'd0500000-0000-4000-8000-000000000002', 'rédacteur', 'Rédiger la fiche sur le diabète de type 2', 'running', null),
    ('d0000000-0000-4000-8000-000000000001', 'd0500000-0000-4000-8000-000000000003', 'planificateur', 'Répartir les gardes de novembre', 'queued', null)
on conflict do nothing;

insert into public.voice_conversations
    (tenant_id, id, caller, language, started_at, duration_seconds, outcome)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0600000-0000-4000-8000-000000000001', 'M. Benali', 'fr', '2026-09-01 09:12:00+01', 184, 'inscription confirmée'),
    ('e0000000-0000-4000-8000-000000000001', 'e0600000-0000-4000-8000-000000000002', 'Mme Haddad', 'ar', '2026-09-01 10:40:00+01', 97, 'rendez-vous pris'),
    ('e0000000-0000-4000-8000-000000000001', 'e0600000-0000-4000-8000-000000000003', 'M. Meziane', 'fr', '2026-09-02 14:05:00+01', 240, 'réclamation cantine'),
    ('d0000000-0000-4000-8000-000000000001', 'd0600000-0000-4000-8000-000000000001', 'Mme Favre', 'fr', '2026-09-01 08:03:00+02', 121, 'rendez-vous déplacé'),
    ('d0000000-0000-4000-8000-000000000001', 'd0600000-0000-4000-8000-000000000002', 'M. Keller', 'de', '2026-09-01 11:27:00+02', 305, 'ordonnance renouvelée'),
    ('d0000000-0000-4000-8000-000000000001', 'd0600000-0000-4000-8000-000000000003', 'Mme Rochat', 'fr', '2026-09-03 16:48:00+02', 76, 'résultats demandés')
on conflict do nothing;

insert into public.voice_transcriptions
    (tenant_id, id, conversation_id, speaker, content, confidence)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0700000-0000-4000-8000-000000000001', 'e0600000-0000-4000-8000-000000000001', 'appelant', 'Je voudrais inscrire ma fille en première année moyenne.', 0.962),
    ('e0000000-0000-4000-8000-000000000001', 'e0700000-0000-4000-8000-000000000002', 'e0600000-0000-4000-8000-000000000001', 'agent', 'Avez-vous son certificat de scolarité ?', 0.981),
    ('e0000000-0000-4000-8000-000000000001', 'e0700000-0000-4000-8000-000000000003', 'e0600000-0000-4000-8000-000000000002', 'appelant', 'صباح الخير، أريد موعدا مع المدير.', 0.914),
    ('e0000000-0000-4000-8000-000000000001', 'e0700000-0000-4000-8000-000000000004', 'e0600000-0000-4000-8000-000000000003', 'appelant', 'Mon fils n’a pas eu de repas hier.', 0.947),
    ('d0000000-0000-4000-8000-000000000001', 'd0700000-0000-4000-8000-000000000001', 'd0600000-0000-4000-8000-000000000001', 'appelante', 'Puis-je déplacer mon rendez-vous de jeudi ?', 0.973),
    ('d0000000-0000-4000-8000-000000000001', 'd0700000-0000-4000-8000-000000000002', 'd0600000-0000-4000-8000-000000000002', 'appelant', 'Ich brauche ein neues Rezept für meine Blutdruckmittel.', 0.938),
    ('d0000000-0000-4000-8000-000000000001', 'd0700000-0000-4000-8000-000000000003', 'd0600000-0000-4000-8000-000000000003', 'appelante', 'Avez-vous reçu mes résultats d’analyse ?', 0.955)
on conflict do nothing;

-- The same e-mail address with both tenants: unique within each, not across.
insert into public.crm_leads
    (tenant_id, id, full_name, email, phone, source, status)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0800000-0000-4000-8000-000000000001', 'Karim Benali', 'k.benali@courriel.example', '+213 21 55 01 01', 'journée portes ouvertes', 'qualified'),
    ('e0000000-0000-4000-8000-000000000001', 'e0800000-0000-4000-8000-000000000002', 'Nadia Haddad', 'n.haddad@courriel.example', '+213 21 55 01 02', 'site web', 'new'),
    ('e0000000-0000-4000-8000-000000000001', 'e0800000-0000-4000-8000-000000000003', 'Yacine Meziane', 'y.meziane@courriel.example', '+213 21 55 01 03', 'recommandation', 'won'),
    ('e0000000-0000-4000-8000-000000000001', 'e0800000-0000-4000-8000-000000000004', 'Partenaire commun', 'contact@partenaire.example', null, 'salon', 'new'),
    ('d0000000-0000-4000-8000-000000000001', 'd0800000-0000-4000-8000-000000000001', 'Claire Favre', 'c.favre@courriel.example', '+41 22 555 01 01', 'recommandation', 'won'),
    ('d0000000-0000-4000-8000-000000000001', 'd0800000-0000-4000-8000-000000000002', 'Jonas Keller', 'j.keller@courriel.example', '+41 22 555 01 02', 'site web', 'qualified'),
    ('d0000000-0000-4000-8000-000000000001', 'd0800000-0000-4000-8000-000000000003', 'Sylvie Rochat', 's.rochat@courriel.example', '+41 22 555 01 03', 'annuaire', 'new'),
    ('d0000000-0000-4000-8000-000000000001', 'd0800000-0000-4000-8000-000000000004', 'Partenaire commun', 'contact@partenaire.example', null, 'salon', 'new')
on conflict do nothing;

insert into public.crm_deals
    (tenant_id, id, lead_id, title, amount_cents, currency, stage, expected_on)
values
    ('e0000000-0000-4000-8000-000000000001', 'e0900000-0000-4000-8000-000000000001', 'e0800000-0000-4000-8000-000000000001', 'Inscription de deux enfants', 18000000, 'DZD', 'offer', '2026-09-15'),
    ('e0000000-0000-4000-8000-000000000001', 'e0900000-0000-4000-8000-000000000002', 'e0800000-0000-4000-8000-000000000002', 'Cours de soutien en mathématiques', 3600000, 'DZD', 'open', '2026-10-01'),
    ('e0000000-0000-4000-8000-000000000001', 'e0900000-0000-4000-8000-000000000003', 'e0800000-0000-4000-8000-000000000003', 'Inscription en terminale', 12000000, 'DZD', 'won', '2026-08-30'),
    ('d0000000-0000-4000-8000-000000000001', 'd0900000-0000-4000-8000-000000000001', 'd0800000-0000-4000-8000-000000000001', 'Bilan de santé annuel', 42000, 'CHF', 'won', '2026-09-10'),
    ('d0000000-0000-4000-8000-000000000001', 'd0900000-0000-4000-8000-000000000002', 'd0800000-0000-4000-8000-000000000002', 'Médecine du travail, 40 personnes', 1680000, 'CHF', 'offer', '2026-11-01'),
    ('d0000000-0000-4000-8000-000000000001', 'd0900000-0000-4000-8000-000000000003', 'd0800000-0000-4000-8000-000000000003', 'Vaccination contre la grippe', 6500, 'CHF', 'open', '2026-10-20')
on conflict do nothing;

insert into public.billing_accounts
    (tenant_id, id, label, plan_code, currency, credits, opened_on)
values
    ('e0000000-0000-4000-8000-000000000001', 'e1000000-0000-4000-8000-000000000001', 'Administration', 'pro', 'DZD', 3200, '2025-09-01'),
    ('e0000000-0000-4000-8000-000000000001', 'e1000000-0000-4000-8000-000000000002', 'Bibliothèque', 'pro', 'DZD', 850, '2026-01-15'),
    ('e0000000-0000-4000-8000-000000000001', 'e1000000-0000-4000-8000-000000000003', 'Vie scolaire', 'free', 'DZD', 100, '2026-03-01'),
    ('d0000000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000001', 'Cabinet', 'enterprise', 'CHF', 41000, '2025-06-01'),
    ('d0000000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000002', 'Téléconsultation', 'enterprise', 'CHF', 7600, '2026-02-01'),
    ('d0000000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000003', 'Recherche', 'pro', 'CHF', 1900, '2026-05-01')
on conflict do nothing;

insert into public.credit_transactions
    (tenant_id, id, account_id, amount, reason, at)
values
    ('e0000000-0000-4000-8000-000000000001', 'e1100000-0000-4000-8000-000000000001', 'e1000000-0000-4000-8000-000000000001', 5000, 'abonnement mensuel', '2026-09-01 00:00:00+01'),
    ('e0000000-0000-4000-8000-000000000001', 'e1100000-0000-4000-8000-000000000002', 'e1000000-0000-4000-8000-000000000001', -1800, 'transcriptions', '2026-09-04 17:30:00+01'),
    ('e0000000-0000-4000-8000-000000000001', 'e1100000-0000-4000-8000-000000000003', 'e1000000-0000-4000-8000-000000000002', -150, 'reconnaissance de texte', '2026-09-05 11:00:00+01'),
    ('e0000000-0000-4000-8000-000000000001', 'e1100000-0000-4000-8000-000000000004', 'e1000000-0000-4000-8000-000000000003', 100, 'offre de bienvenue', '2026-03-01 09:00:00+01'),
    ('d0000000-0000-4000-8000-000000000001', 'd1100000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000001', 50000, 'abonnement mensuel', '2026-09-01 00:00:00+02'),
    ('d0000000-0000-4000-8000-000000000001', 'd1100000-0000-4000-8000-000000000002', 'd1000000-0000-4000-8000-000000000001', -9000, 'reprise de dossiers', '2026-09-06 19:00:00+02'),
    ('d0000000-0000-4000-8000-000000000001', 'd1100000-0000-4000-8000-000000000003', 'd1000000-0000-4000-8000-000000000002', -2400, 'téléconsultations', '2026-09-07 12:15:00+02'),
    ('d0000000-0000-4000-8000-000000000001', 'd1100000-0000-4000-8000-000000000004', 'd1000000-0000-4000-8000-000000000003', -100, 'analyse', '2026-09-08 08:45:00+02')
on conflict do nothing;

insert into public.pme_analyses
    (tenant_id, id, subject, period, score, findings)
values
    ('e0000000-0000-4000-8000-000000000001', 'e1200000-0000-4000-8000-000000000001', 'Trésorerie', '[2026-01-01,2026-07-01)', 71.5, '{"alerte": "impayés de juin"}'),
    ('e0000000-0000-4000-8000-000000000001', 'e1200000-0000-4000-8000-000000000002', 'Fréquentation', '[2025-09-01,2026-07-01)', 88.0, '{"élèves": 500, "abandons": 6}'),
    ('e0000000-0000-4000-8000-000000000001', 'e1200000-0000-4000-8000-000000000003', 'Fournisseurs', '[2026-01-01,2026-07-01)', 64.0, '{"délai moyen": 41}'),
    ('d0000000-0000-4000-8000-000000000001', 'd1200000-0000-4000-8000-000000000001', 'Trésorerie', '[2026-01-01,2026-07-01)', 92.0, '{"marge": 0.31}'),
    ('d0000000-0000-4000-8000-000000000001', 'd1200000-0000-4000-8000-000000000002', 'Occupation des plages', '[2026-01-01,2026-07-01)', 83.5, '{"rendez-vous manqués": 0.06}'),
    ('d0000000-0000-4000-8000-000000000001', 'd1200000-0000-4000-8000-000000000003', 'Assureurs', '[2026-01-01,2026-07-01)', 77.0, '{"délai moyen": 28}')
on conflict do nothing;

-- The same numbers with both organisations, and the same pair of participants.
insert into public.vechat_conversations
    (organisation_id, id, participant1_id, participant1_type, participant2_id, participant2_type)
values
    (1, 1, 101, 'parent', 12, 'teacher'),
    (1, 2, 102, 'parent', 1, 'admin'),
    (1, 3, 103, 'student', 14, 'teacher'),
    (2, 1, 101, 'patient', 7, 'doctor'),
    (2, 2, 102, 'patient', 1, 'admin'),
    (2, 3, 101, 'parent', 12, 'teacher')
on conflict do nothing;

insert into public.vechat_messages
    (organisation_id, id, conversation_id, sender_id, sender_type, content)
values
    (1, 1, 1, 101, 'parent', 'Bonjour, ma fille sera absente demain.'),
    (1, 2, 1, 12, 'teacher', 'Bien noté, merci.'),
    (1, 3, 2, 102, 'parent', 'Le paiement du trimestre est-il arrivé ?'),
    (1, 4, 3, 103, 'student', 'Le devoir de physique est-il à rendre lundi ?'),
    (2, 1, 1, 101, 'patient', 'La douleur est revenue cette nuit.'),
    (2, 2, 1, 7, 'doctor', 'Passez au cabinet à 11 h, je vous garde un moment.'),
    (2, 3, 2, 102, 'patient', 'Pouvez-vous m’envoyer la facture ?'),
    (2, 4, 3, 101, 'parent', 'Le certificat pour la crèche est-il prêt ?')
on conflict do nothing;

commit;
